package memory_test

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// groups runs f with a broker without a group, in virtual time, and with what returns another one over its messages.
func groups(t *testing.T, f func(t *testing.T, plain *memory.Broker, group func(name string) *memory.Broker)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.DiscardHandler)
		plain := memory.New(&memory.Config{Logger: quiet})
		t.Cleanup(func() { assert.NoError(t, plain.Close()) })
		f(t, plain, func(name string) *memory.Broker {
			b := plain.Connect(&memory.Config{Group: name, Logger: quiet})
			t.Cleanup(func() { assert.NoError(t, b.Close()) })
			return b
		})
	})
}

func subscribeTo(t *testing.T, b *memory.Broker, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := b.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

// publishTo publishes a message to each topic, with the topic as its UUID.
func publishTo(t *testing.T, b *memory.Broker, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		require.NoError(t, b.Publish(topic, message.NewMessage(topic, []byte(topic))))
	}
}

// requireReceives receives these messages, acks them, and requires that no other one comes.
func requireReceives(t *testing.T, messages <-chan *message.Message, uuids ...string) {
	t.Helper()
	for _, uuid := range uuids {
		msg := receive(t, messages)
		require.Equal(t, uuid, msg.UUID)
		msg.Ack()
	}
	requireNone(t, messages)
}

// requireFrom is requireReceives for what publishTo has published, and comes by a pattern.
func requireFrom(t *testing.T, messages <-chan *message.Message, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		msg := receive(t, messages)
		require.Equal(t, topic, msg.UUID)
		require.Equal(t, topic, delivery(msg).PublishedTo)
		msg.Ack()
	}
	requireNone(t, messages)
}

// fail dead-letters the next message, as the consumer of a topic or of a pattern does.
func fail(t *testing.T, messages <-chan *message.Message, topic string) {
	t.Helper()
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{
		Topic: topic + "_dead", Metadata: message.Metadata{backend.DeadLetterTopic: topic, backend.DeadLetterReason: "no"},
	}))
	synctest.Wait()
}

func TestGroup_GetsEveryMessageOnce(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		mail, bills := group("mail"), group("Bills & more")
		require.NoError(t, mail.SubscribeInitialize("t"))
		require.NoError(t, bills.SubscribeInitialize("t"))
		publish(t, plain, "a", "b")
		require.NoError(t, plain.Publish("t", message.NewMessage("c", nil), message.NewMessage("d", nil)))
		for _, b := range []*memory.Broker{mail, bills} {
			requireReceives(t, subscribe(t, b), "a", "b", "c", "d")
		}
		require.Zero(t, plain.Size("t"), "no queue is filled that no consumer reads")
	})
}

func TestGroup_SharesMessagesAmongConsumers(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		one, two, other := subscribe(t, group("g")), subscribe(t, group("g")), subscribe(t, group("h"))
		publish(t, plain, "a", "b")
		came := map[string]bool{}
		for range 2 {
			var msg *message.Message
			select {
			case msg = <-one:
			case msg = <-two:
			}
			came[msg.UUID] = true
			msg.Ack()
		}
		require.Len(t, came, 2)
		requireNone(t, one)
		requireNone(t, two)
		requireReceives(t, other, "a", "b")
	})
}

func TestGroup_CopiesAreIsolated(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		one, two := group("one"), group("two")
		first, second := subscribe(t, one), subscribe(t, two)
		msg := message.NewMessage("a", []byte("payload"))
		msg.Metadata.Set("k", "v")
		require.NoError(t, plain.Publish("t", msg))
		fail(t, first, "t")
		mine := receive(t, second)
		mine.Metadata.Set("k", "changed")
		mine.Payload[0] = 'X'
		backend.Nack(mine, backend.Redelivery{Failures: 3})
		again := receive(t, second)
		require.Equal(t, message.Metadata{"k": "v"}, again.Metadata)
		require.Equal(t, "payload", string(again.Payload))
		require.Equal(t, 3, delivery(again).Failures)
		again.Ack()
		letters, err := plain.DeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.Equal(t, "one", letters[0].Group)
		require.Equal(t, "payload", string(letters[0].Payload))
	})
}

func TestGroup_IsRequiredOnTopicWithGroups(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		g := group("g")
		require.NoError(t, g.SubscribeInitialize("t"))
		publish(t, plain, "before")
		for range 2 {
			_, err := plain.Subscribe(t.Context(), "t")
			require.ErrorIs(t, err, backend.ErrGroupRequired)
			require.EqualError(t, err, `memory: subscribe to "t": ezq: the consumers of this topic have groups: the topic has groups, and no queue of its own: what was published`+
				` so far is not there for a consumer without a group; set Config.Group; or declare the topic's own queue, which gets what is published from then on: call`+
				` SubscribeInitialize of a Broker without a Group`)
		}
		publish(t, plain, "still before")
		require.NoError(t, plain.Connect(nil).SubscribeInitialize("t"))
		publish(t, plain, "after")
		requireReceives(t, subscribe(t, plain), "after")
		requireReceives(t, subscribe(t, g), "before", "still before", "after")
	})
}

func TestGroup_LogsMessagesItMissed(t *testing.T) {
	t.Parallel()
	plain := memory.New(nil)
	publish(t, plain, "a", "b")
	for _, test := range []struct{ group, level string }{{"late", "WARN"}, {"late", ""}, {"later", "WARN"}} {
		var log bytes.Buffer
		b := plain.Connect(&memory.Config{Group: test.group, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, b.SubscribeInitialize("t"))
		if test.level == "" {
			require.Empty(t, log.String())
			continue
		}
		for _, text := range []string{"was not bound to the topic until now", "level=" + test.level, "group=" + test.group, "waiting=2", "topic=t"} {
			require.Contains(t, log.String(), text)
		}
	}
	var log bytes.Buffer
	b := plain.Connect(&memory.Config{Group: "watch", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, b.SubscribeInitialize("t_dead"))
	require.Contains(t, log.String(), "dead letters are moved to the topic's own queue, and come to no group")
}

// deployments are what a topic has from the start, what comes besides, and when.
func TestGroup_LosesNothingInAnyDeploymentOrder(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"nothing", "own", "group", "pattern"} {
		for _, comes := range []string{"own", "group", "pattern"} {
			for _, when := range []string{"before", "after", "while"} {
				t.Run(base+" there, "+comes+" comes, "+when, func(t *testing.T) {
					groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
						d := deployment{t, plain, group("g"), map[string]int{}}
						d.run(base, comes, when)
					})
				})
			}
		}
	}
}

type deployment struct {
	t              *testing.T
	plain, grouped *memory.Broker
	from           map[string]int // which step a queue gets first, of those that are there
}

// run publishes in steps, and requires that each queue has all of them from its beginning on.
func (d deployment) run(base, comes, when string) {
	const steps = 6
	at := map[string]int{"before": 0, "while": steps / 2, "after": steps}[when]
	d.install(base, 0)
	for step := range steps + 1 {
		if step == at {
			d.install(comes, step)
		}
		if step == steps {
			break
		}
		if len(d.from) == 0 {
			d.from["own"] = step // a publish creates it
		}
		publishTo(d.t, d.plain, "t.created")
	}
	for what, from := range d.from {
		size := map[string]func() int{
			"own": func() int { return d.plain.Size("t.created") }, "group": func() int { return d.grouped.Size("t.created") },
			"pattern": func() int { return d.grouped.Size("t.*") },
		}[what]()
		require.Equal(d.t, steps-from, size, what)
	}
	_, err := d.plain.Subscribe(d.t.Context(), "t.created")
	if _, there := d.from["own"]; !there {
		require.ErrorIs(d.t, err, backend.ErrGroupRequired, "an own queue would have missed messages")
	} else {
		require.NoError(d.t, err)
	}
}

func (d deployment) install(what string, step int) {
	if _, there := d.from[what]; there || what == "nothing" {
		return
	}
	d.from[what] = step
	switch what {
	case "own":
		require.NoError(d.t, d.plain.SubscribeInitialize("t.created"))
	case "group":
		require.NoError(d.t, d.grouped.SubscribeInitialize("t.created"))
	case "pattern":
		require.NoError(d.t, d.grouped.SubscribeInitialize("t.*"))
	}
}

func TestGroup_NameIsChecked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a\x00", "\xff", string(bytes.Repeat([]byte("g"), backend.MaxTopic+1))} {
		err := memory.New(&memory.Config{Group: name}).SubscribeInitialize("t")
		require.ErrorContains(t, err, "memory: Config.Group is ")
		require.ErrorContains(t, err, "leave it empty for no group")
	}
}

func TestGroup_HasKeysOfItsOwn(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		one, two := group("one"), group("two")
		first := subscribeTo(t, one, "topic")
		require.NoError(t, two.SubscribeInitialize("topic"))
		unique := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k"} }
		replace := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k", Replace: true} }
		require.Equal(t, backend.PublishStored, publishOn(t, plain, "a", unique(), 0).Outcome)
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishExisted, ID: "a"}, publishOn(t, plain, "b", unique(), 0))
		requireReceives(t, first, "a")
		require.Equal(t, backend.PublishStored, publishOn(t, plain, "c", unique(), 0).Outcome, "one of the groups is done with it")
		requireReceives(t, first, "c")
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "a"}, publishOn(t, plain, "d", replace(), 0))
		requireReceives(t, first, "d")
		requireReceives(t, subscribeTo(t, two, "topic"), "d")
	})
}

func TestGroup_SharesIDsWithTheTopic(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		first := subscribeTo(t, group("one"), "topic")
		once := func() *backend.PublishCondition { return &backend.PublishCondition{Once: true} }
		publishOn(t, plain, "a", once(), 0)
		second := subscribeTo(t, group("two"), "topic")
		require.Equal(t, backend.PublishExisted, publishOn(t, plain, "a", once(), 0).Outcome)
		publishOn(t, plain, "b", once(), 0)
		requireReceives(t, first, "a", "b")
		requireReceives(t, second, "b")
	})
}

func TestGroup_GetsTicks(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		first, second := subscribe(t, group("one")), subscribeTo(t, group("two"), "*")
		tick := func() backend.TickOutcome {
			msg := message.NewMessage(time.Now().Format(time.RFC3339), nil)
			tick := &backend.ScheduleTick{Schedule: "s", At: time.Now()}
			msg.SetContext(backend.WithScheduleTick(t.Context(), tick))
			require.NoError(t, plain.Publish("t", msg))
			result, _ := tick.Result()
			return result.Outcome
		}
		require.Equal(t, backend.TickTaken, tick(), "a schedule begins with a tick that is taken")
		time.Sleep(time.Minute)
		require.Equal(t, backend.TickPublished, tick())
		require.Equal(t, backend.TickTaken, tick())
		for _, messages := range []<-chan *message.Message{first, second} {
			receive(t, messages).Ack()
			requireNone(t, messages)
		}
	})
}

func TestGroup_PauseIsItsOwn(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		one, two := group("one"), group("two")
		first, second := subscribe(t, one), subscribe(t, two)
		pause := func(b *memory.Broker, d time.Duration) backend.Paused {
			paused, err := b.Pause(t.Context(), "t", backend.Pause{By: "a test", Reason: "a test", For: d})
			require.NoError(t, err)
			return paused
		}
		require.Equal(t, "one", pause(one, 0).Group)
		synctest.Wait()
		publish(t, plain, "a")
		requireReceives(t, second, "a")
		requireNone(t, first)
		require.Empty(t, pause(plain, time.Hour).Group)
		synctest.Wait()
		publish(t, plain, "b")
		requireNone(t, second)
		for b, want := range map[*memory.Broker][]string{plain: {"", "one"}, one: {"", "one"}, two: {""}} {
			held, err := b.Pauses(t.Context(), "t")
			require.NoError(t, err)
			var names []string
			for _, p := range held {
				names = append(names, p.Group)
			}
			require.Equal(t, want, names)
		}
		time.Sleep(time.Hour)
		requireReceives(t, second, "b")
		requireNone(t, first)
		resumed, err := plain.Resume(t.Context(), "t")
		require.NoError(t, err)
		require.False(t, resumed, "it has ended, and that of a group is not the topic's")
		resumed, err = one.Resume(t.Context(), "t")
		require.NoError(t, err)
		require.True(t, resumed)
		requireReceives(t, first, "a", "b")
	})
}

func TestGroup_PauseMakesNoGroup(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		g := group("g")
		_, err := g.Pause(t.Context(), "t", backend.Pause{By: "a test", Reason: "a test"})
		require.NoError(t, err)
		publish(t, plain, "a")
		requireReceives(t, subscribe(t, plain), "a")
		messages := subscribe(t, g)
		publish(t, plain, "b")
		requireNone(t, messages)
		_, err = g.Resume(t.Context(), "t")
		require.NoError(t, err)
		requireReceives(t, messages, "b")
	})
}

func TestGroup_DeadLettersGoBackToIt(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		first, second := subscribe(t, group("one")), subscribe(t, group("two"))
		publish(t, plain, "a", "b")
		fail(t, first, "t")
		fail(t, second, "t")
		requireReceives(t, first, "b")
		requireReceives(t, second, "b")
		done, err := plain.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{Group: "one"})
		require.NoError(t, err)
		require.Equal(t, backend.Redriven{Moved: 1}, done)
		requireReceives(t, first, "a")
		requireNone(t, second)
		counts, err := plain.CountDeadLetters(t.Context(), "t_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Len(t, counts, 1)
		require.Equal(t, "two", counts[0].Group)
		letter := message.NewMessage("anew", nil)
		letter.Metadata.Set(backend.DeadLetterTopic, "t")
		require.NoError(t, plain.Publish("t_dead", letter))
		_, err = plain.Redrive(t.Context(), "t_dead", backend.DeadLetterSelection{ID: "anew"})
		require.NoError(t, err)
		requireReceives(t, first, "anew")
		requireReceives(t, second, "anew")
	})
}

func TestGroup_DeadLettersOfAnotherTopicAreStrays(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		messages := subscribe(t, group("g"))
		publish(t, plain, "a")
		fail(t, messages, "u")
		done, err := plain.Redrive(t.Context(), "u_dead", backend.DeadLetterSelection{})
		require.ErrorContains(t, err, "1 messages stay")
		require.Zero(t, done.Moved)
		require.Equal(t, 1, plain.Size("u_dead"))
	})
}

func TestGroup_DeadLettersForIsThatOfItsConsumers(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		short := plain.Connect(&memory.Config{Group: "short", DeadLettersFor: time.Hour})
		defer func() { require.NoError(t, short.Close()) }()
		first, second := subscribeTo(t, short, "t.*"), subscribeTo(t, group("long"), "t.*")
		publishTo(t, plain, "t.a")
		fail(t, first, "t.*")
		fail(t, second, "t.*")
		require.Equal(t, []string{"t.a", "t.a"}, deadLetters(t, plain, "t.*_dead"))
		time.Sleep(time.Hour)
		require.Equal(t, []string{"t.a"}, deadLetters(t, plain, "t.*_dead"))
	})
}

func TestGroup_IsInspected(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		for topic, b := range map[string]*memory.Broker{"t.a": group("g"), "t.*": group("h")} {
			require.NoError(t, b.SubscribeInitialize(topic))
		}
		_, err := group("later").Pause(t.Context(), "t.a", backend.Pause{By: "a test", Reason: "a test"})
		require.NoError(t, err)
		publishTo(t, plain, "t.a", "t.b")
		states, err := plain.QueueStates(t.Context())
		require.NoError(t, err)
		require.Equal(t, []backend.QueueState{
			{Queue: `t.*, group "h"`, Topic: "t.*", Group: "h", Waiting: 2, Added: 2}, {Queue: `t.a, group "g"`, Topic: "t.a", Group: "g", Waiting: 1, Added: 1},
		}, states)
		bindings, err := plain.Bindings(t.Context())
		require.NoError(t, err)
		require.Equal(t, []backend.Binding{{Topic: "t.*", Group: "h", Queue: `t.*, group "h"`}, {Topic: "t.a", Group: "g", Queue: `t.a, group "g"`}}, bindings)
		pauses, err := plain.AllPauses(t.Context())
		require.NoError(t, err)
		require.Len(t, pauses, 1)
		require.Equal(t, "later", pauses[0].Group)
		peeked, err := plain.Peek(t.Context(), "t.*", backend.Peek{Group: "h"})
		require.NoError(t, err)
		require.Len(t, peeked, 2)
		require.Equal(t, "t.b", peeked[1].PublishedTo)
		require.Equal(t, backend.InGroup, peeked[1].Place)
		peeked, err = plain.Peek(t.Context(), "t.a", backend.Peek{Group: "none"})
		require.NoError(t, err)
		require.Empty(t, peeked)
	})
}
