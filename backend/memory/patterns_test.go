package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestPattern_GroupGetsTopicsAsTheyAreWritten(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		stars, hashes := subscribeTo(t, group("star"), "orders.*"), subscribeTo(t, group("hash"), "orders.#")
		publishTo(t, plain, "orders", "orders.eu", "orders.größe 日本'\\", "orders.eu.paid", "ordersx", "orders.C#", "Orders.eu", "orders.eu_dead")
		requireFrom(t, stars, "orders.eu", "orders.größe 日本'\\", "orders.C#")
		requireFrom(t, hashes, "orders.eu", "orders.größe 日本'\\", "orders.eu.paid", "orders.C#")
		for _, topic := range []string{"orders", "ordersx", "Orders.eu", "orders.eu_dead"} {
			require.Equal(t, 1, plain.Size(topic), topic)
		}
		require.Zero(t, plain.Size("orders.eu"), "no queue is filled that no consumer reads")
	})
}

func TestPattern_CoversWhatComesLaterAndTakesNothingAway(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		plains, exacts := subscribeTo(t, plain, "t.plain"), subscribeTo(t, group("exact"), "t.exact")
		publishTo(t, plain, "t.plain", "t.exact")
		all := subscribeTo(t, group("all"), "t.*")
		publishTo(t, plain, "t.plain", "t.exact", "t.new")
		requireReceives(t, plains, "t.plain", "t.plain")
		requireReceives(t, exacts, "t.exact", "t.exact")
		requireFrom(t, all, "t.plain", "t.exact", "t.new")
	})
}

func TestPattern_IsRefusedWhereItWouldGetNothing(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		g := group("g")
		for _, pattern := range []string{"**", "a.#b", "orders*", "größe.*", "*."} {
			_, err := g.Subscribe(t.Context(), pattern)
			refused := (*backend.RefusedError)(nil)
			require.ErrorAs(t, err, &refused, pattern)
			require.ErrorContains(t, err, `"orders.*"`)
			require.ErrorAs(t, g.SubscribeInitialize(pattern), &refused, pattern)
		}
		publishTo(t, plain, "größe.a")
		require.Equal(t, 1, plain.Size("größe.a"), "nothing has subscribed to it")
	})
}

func TestPattern_MakesTopicsGrouped(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		all := subscribeTo(t, group("all"), "#")
		publishTo(t, plain, "t")
		requireFrom(t, all, "t")
		_, err := plain.Subscribe(t.Context(), "t")
		require.ErrorIs(t, err, backend.ErrGroupRequired)
		require.NoError(t, plain.SubscribeInitialize("t"))
		publishTo(t, plain, "t")
		requireReceives(t, subscribeTo(t, plain, "t"), "t")
		requireFrom(t, all, "t")
		subscribeTo(t, plain, "t_dead") // dead letters come to no group
	})
}

func TestPattern_HasKeysOfItsTopics(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		g := group("g")
		require.NoError(t, g.SubscribeInitialize("t.*"))
		on := func(topic, id string, replace bool) backend.PublishOutcome {
			condition := &backend.PublishCondition{UniqueKey: "k", Replace: replace}
			msg := message.NewMessage(id, nil)
			msg.SetContext(backend.WithPublishCondition(t.Context(), condition))
			require.NoError(t, plain.Publish(topic, msg))
			result, _ := condition.Result()
			return result.Outcome
		}
		require.Equal(t, backend.PublishStored, on("t.a", "1", false))
		require.Equal(t, backend.PublishStored, on("t.b", "2", false), "keys are of their topics")
		require.Equal(t, backend.PublishExisted, on("t.b", "3", false))
		require.Equal(t, backend.PublishReplaced, on("t.a", "4", true))
		messages := subscribeTo(t, g, "t.*")
		for id, topic := range map[string]string{"4": "t.a", "2": "t.b"} {
			found, err := plain.Find(t.Context(), topic, backend.Selection{UniqueKey: "k"})
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.Equal(t, id, found[0].ID)
		}
		first, second := receive(t, messages), receive(t, messages)
		require.Equal(t, [4]string{"4", "t.a", "2", "t.b"}, [4]string{first.UUID, delivery(first).PublishedTo, second.UUID, delivery(second).PublishedTo})
		require.True(t, first.Ack() && second.Ack())
	})
}

func TestPattern_DeadLettersGoBackToItsGroup(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		messages, others := subscribeTo(t, group("g"), "t.*"), subscribeTo(t, group("other"), "t.a")
		publishTo(t, plain, "t.a")
		requireReceives(t, others, "t.a")
		fail(t, messages, "t.*")
		letters, err := plain.DeadLetters(t.Context(), "t.*_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.Equal(t, [3]string{"g", "t.*", "t.a"}, [3]string{letters[0].Group, letters[0].Topic, letters[0].PublishedTo})
		found, err := plain.Find(t.Context(), "t.*", backend.Selection{ID: "t.a"})
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, "t.a", found[0].PublishedTo)
		require.Equal(t, backend.StateDead, found[0].State)

		dead := subscribeTo(t, plain.Connect(nil), "t.*_dead")
		msg := receive(t, dead)
		require.Empty(t, delivery(msg).PublishedTo, "it came to no pattern")
		backend.Release(msg)
		require.NoError(t, plain.Connect(nil).Close())
		_, err = plain.Pause(t.Context(), "t.*_dead", backend.Pause{By: "a test", Reason: "so that none is leased"})
		require.NoError(t, err)
		synctest.Wait()
		done, err := plain.Redrive(t.Context(), "t.*_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Equal(t, 1, done.Moved)
		requireFrom(t, messages, "t.a")
		requireNone(t, others)
	})
}

func TestPattern_DeadLetterOfNoGroupGoesBackNowhere(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		letter := message.NewMessage("by hand", nil)
		letter.Metadata.Set(backend.DeadLetterTopic, "t.*")
		require.NoError(t, plain.Publish("t.*_dead", letter))
		_, err := plain.Redrive(t.Context(), "t.*_dead", backend.DeadLetterSelection{})
		require.ErrorContains(t, err, "1 messages stay")
		messages := subscribeTo(t, group("g"), "t.*")
		_, err = plain.Redrive(t.Context(), "t.*_dead", backend.DeadLetterSelection{})
		require.NoError(t, err)
		msg := receive(t, messages)
		require.Empty(t, delivery(msg).PublishedTo, "it does not say it")
		msg.Ack()
	})
}

func TestPattern_MessagesAreFoundByTopicAndByPattern(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		g := group("g")
		require.NoError(t, g.SubscribeInitialize("t.*"))
		require.NoError(t, group("audit").SubscribeInitialize("#"))
		require.NoError(t, g.SubscribeInitialize("t.a"))
		for _, topic := range []string{"t.a", "t.b"} {
			msg := message.NewMessage(topic, nil)
			msg.Metadata.Set("by", "a test")
			require.NoError(t, plain.Publish(topic, msg))
		}
		count := func(topic string) int {
			found, err := g.Find(t.Context(), topic, backend.Selection{Header: "by", Value: "a test"})
			require.NoError(t, err)
			for _, one := range found {
				require.Equal(t, backend.InGroup, one.Place)
				if one.Queue != memory.GroupQueue("t.a", "g") {
					require.Equal(t, one.ID, one.PublishedTo)
				}
			}
			return len(found)
		}
		require.Equal(t, 3, count("t.a"), "the copies of its own group, and of those that take it by a pattern")
		require.Equal(t, 2, count("t.b"))
		require.Equal(t, 2, count("t.*"))
		require.Equal(t, 2, count("#"))
		require.Equal(t, 0, count("t"))
		cancelled, err := plain.Cancel(t.Context(), "t.*", backend.Selection{ID: "t.b"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Removed: 1}, cancelled)
		require.Equal(t, 1, count("t.*"))
		cancelled, err = plain.Cancel(t.Context(), "t.b", backend.Selection{ID: "t.b"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Removed: 1}, cancelled)
		require.Equal(t, 1, count("#"))
		moved, err := plain.Reschedule(t.Context(), "t.a", backend.Selection{ID: "t.a"}, time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, 3, moved.Moved)
		_, err = plain.Find(t.Context(), "t.*", backend.Selection{UniqueKey: "k"})
		require.ErrorAs(t, err, new(*backend.RefusedError))
		require.ErrorContains(t, err, "ask for the topic that the message was published to")
	})
}

func TestPattern_RunningMessagesAreCancelledInEachGroup(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		first, second := subscribeTo(t, group("one"), "t.a"), subscribeTo(t, group("two"), "t.*")
		publishTo(t, plain, "t.a")
		one, two := receive(t, first), receive(t, second)
		cancelled, err := plain.CancelRunning(t.Context(), "t.a", backend.Selection{ID: "t.a"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Stopped: 2}, cancelled)
		<-one.Context().Done()
		<-two.Context().Done()
		require.True(t, one.Nack() && two.Nack())
		requireNone(t, first)
		requireNone(t, second)
	})
}

func TestPattern_PauseIsThatOfItsGroups(t *testing.T) {
	groups(t, func(t *testing.T, plain *memory.Broker, group func(string) *memory.Broker) {
		messages := subscribeTo(t, group("g"), "t.*")
		_, err := plain.Pause(t.Context(), "t.a", backend.Pause{By: "a test", Reason: "a test"})
		require.NoError(t, err)
		publishTo(t, plain, "t.a")
		requireFrom(t, messages, "t.a")
		_, err = plain.Pause(t.Context(), "t.*", backend.Pause{By: "a test", Reason: "a test"})
		require.NoError(t, err)
		requireNone(t, messages)
		publishTo(t, plain, "t.a")
		requireNone(t, messages)
		_, err = plain.Resume(t.Context(), "t.*")
		require.NoError(t, err)
		requireFrom(t, messages, "t.a")
	})
}
