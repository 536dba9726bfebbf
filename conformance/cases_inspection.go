package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

func inspection() []Case {
	return theme("inspection",
		promise("a queue tells what waits",
			"A queue counts what waits as Waiting, what is with a consumer as Invisible, and what was acked not at all, whatever process has published or received it.",
			needsInspection, queueTellsWhatWaits),
		promise("a queue tells what is delayed",
			"A delayed message counts as Invisible until it is due; NextDue is when the first of them is, and zero if there is none.",
			needsInspection|needsDelay, queueTellsWhatIsDelayed),
		promise("a count ends at its limit",
			"Of more messages than MaxQueueCount, a queue counts that many, and says that there are more; of fewer, each is counted.",
			needsInspection, countEndsAtLimit),
		promise("the oldest tells the lag",
			"Oldest is how long the message has waited that has waited longest, from when it was due; it is zero if none waits.",
			needsInspection|needsDelay, oldestTellsLag),
		promise("queues are listed in order",
			"The states of all queues come in the order of their topics and groups, those of topics without messages too.",
			needsInspection, queuesAreListedInOrder),
		promise("groups have queues of their own",
			"Each group of a topic has a state with its name, which counts what that group has not acked.",
			needsInspection|needsGroups, groupsHaveQueues),
		promise("dead letters have a queue",
			"A dead letter counts in the queue of its own topic, and no more where it was.",
			needsInspection|needsDeadLetter, deadLettersHaveQueue),
		promise("what comes and goes is counted",
			"From one state to another, Added grows by what was published and Removed by what was acked, and neither by a nack, at the latest when the process has ended that did so; or both are -1.",
			needsInspection, trafficIsCounted),
		promise("bindings tell groups",
			"Each group is bound to its topic, or its pattern, with the queue that its state names; they come in the order of their topics.",
			needsInspection|needsGroups, bindingsTellGroups),
		promise("all pauses are told",
			"AllPauses returns the pauses of all topics in the order of their names, and none that was resumed or has ended.",
			needsInspection|needsPauses, allPausesAreTold),
		promise("looks may be taken at once",
			"Several goroutines may look at the same time, while messages come and go, and none of them fails.",
			needsInspection, looksAtOnce),
		promise("a closed inspector refuses",
			"After Close, QueueStates, Bindings, AllPauses and Peek return ErrClosed.",
			needsInspection, closedInspectorRefuses),
	)
}

func inspectorOf(p *peer) backend.Inspector {
	inspector, ok := p.Publisher.(backend.Inspector)
	p.h.require(ok, "the publisher is no backend.Inspector")
	return inspector
}

// queueStates returns the states of all queues. If some cannot be looked at, as when another case is creating them, it looks again.
func queueStates(p *peer) (states []backend.QueueState) {
	inspector, deadline := inspectorOf(p), time.Now().Add(p.h.timeout)
	for {
		err := p.h.call("QueueStates", func() (err error) {
			states, err = inspector.QueueStates(p.h.ctx)
			return err
		})
		if err == nil {
			return states
		}
		p.h.requireRefusal(err)
		p.h.require(time.Now().Before(deadline), "QueueStates: %v", err)
		time.Sleep(10 * time.Millisecond)
	}
}

// stateIn returns the state of a queue, which is listed once at most.
func stateIn(h *harness, states []backend.QueueState, topic, group string) (state backend.QueueState, ok bool) {
	for _, s := range states {
		if s.Topic == topic && s.Group == group {
			h.require(!ok, "the queue of %q and the group %q has two states", topic, group)
			state, ok = s, true
		}
	}
	return state, ok
}

// awaitState waits until a queue is as it should be, and returns its state. What consumers do may take its time to be seen.
func awaitState(p *peer, topic, group, should string, is func(backend.QueueState) bool) backend.QueueState {
	for deadline := time.Now().Add(p.h.timeout); ; time.Sleep(10 * time.Millisecond) {
		state, ok := stateIn(p.h, queueStates(p), topic, group)
		if ok && is(state) {
			return state
		}
		p.h.require(ok || time.Now().Before(deadline), "the queue has no state, and should %s", should)
		p.h.require(time.Now().Before(deadline), "the queue should %s, and its state is %+v", should, state)
	}
}

// awaitCounts waits until that many messages of a queue wait, and that many are leased or delayed.
func awaitCounts(p *peer, topic, group string, waiting, invisible int, when string) backend.QueueState {
	should := fmt.Sprintf("count %d messages that wait and %d that do not, %s", waiting, invisible, when)
	state := awaitState(p, topic, group, should, func(s backend.QueueState) bool {
		return s.Waiting == waiting && s.Invisible == invisible
	})
	p.h.require(!state.WaitingCapped && !state.InvisibleCapped, "there are said to be more than %d and %d messages", waiting, invisible)
	p.h.require(waiting > 0 || state.Oldest == 0, "the oldest is said to wait for %v, and none waits", state.Oldest)
	p.h.require(invisible > 0 || state.NextDue.IsZero(), "the next one is said to be due at %v, and none is leased or delayed", state.NextDue)
	return state
}

func queueTellsWhatWaits(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	one.publish(topic, "a", "b", "c")
	awaitCounts(two, topic, "", 3, 0, "when three messages wait")
	in := one.subscribe(topic)
	received := in.receiveAll("a", "b", "c")
	awaitCounts(two, topic, "", 0, 3, "when three are with a consumer")
	h.ack(received["a"])
	awaitCounts(two, topic, "", 0, 2, "when one of three was acked")
	h.ack(received["b"])
	h.ack(received["c"])
	awaitCounts(two, topic, "", 0, 0, "when all were acked")
	in.stop()
	in.end("its context ended")
	one.publish(topic, "d")
	awaitCounts(one, topic, "", 1, 0, "when one waits again")
}

func queueTellsWhatIsDelayed(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	one.publish(topic, "a")
	awaitCounts(two, topic, "", 1, 0, "when one message waits")
	start := time.Now()
	one.send(topic, h.delayed("late", 3*time.Hour), h.delayed("soon", time.Hour), h.delayed("later", 2*time.Hour))
	state := awaitCounts(two, topic, "", 1, 3, "when one waits, and three are delayed")
	due := state.NextDue.Sub(start)
	h.require(due >= time.Hour-slack-h.promises.DelayResolution && due <= time.Hour+tolerance(h)+slack, "the next one is said to be due after %v instead of an hour", due)
}

func countEndsAtLimit(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	const batch = backend.MaxQueueCount / 10
	msgs := h.messages(numbered(batch)...)
	for range 9 {
		p.send(topic, msgs...)
	}
	awaitCounts(p, topic, "", 9*batch, 0, "when nine tenths of what is counted wait")
	p.send(topic, msgs...)
	p.publish(topic, "one more")
	state := awaitState(p, topic, "", "count MaxQueueCount messages and no more", func(s backend.QueueState) bool {
		return s.Waiting == backend.MaxQueueCount && s.Invisible == 0
	})
	h.require(state.WaitingCapped && !state.InvisibleCapped, "that more messages wait is said to be %v, and that more do not %v", state.WaitingCapped, state.InvisibleCapped)
}

// requireLag ends the case unless Oldest is how long a message waits that became due between two moments.
func requireLag(p *peer, topic string, waiting int, from, to time.Time) {
	begin := time.Now()
	state := awaitCounts(p, topic, "", waiting, 0, "when all that was published waits")
	blur := slack + p.h.promises.DelayResolution
	p.h.require(state.Oldest >= begin.Sub(to)-blur && state.Oldest <= time.Since(from)+blur,
		"the oldest message is said to wait for %v, and it waits for %v to %v", state.Oldest, begin.Sub(to), time.Since(from))
}

func oldestTellsLag(h *harness) {
	p, topic, d := connect(h, PeerConfig{}), h.topic(), noticeableDelay(h)
	p.initialize(topic)
	awaitCounts(p, topic, "", 0, 0, "when nothing was published")
	from := time.Now()
	p.send(topic, h.delayed("first", d))
	to := time.Now()
	time.Sleep(2 * d)
	requireLag(p, topic, 1, from.Add(d), to.Add(d))
	p.publish(topic, "second")
	requireLag(p, topic, 2, from.Add(d), to.Add(d))
	h.ack(p.subscribe(topic).receiveAll("first", "second")["first"])
	awaitCounts(p, topic, "", 0, 1, "when one of two was acked, and the other one is with a consumer")
}

func queuesAreListedInOrder(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	var want []string
	for _, name := range []string{"_c", "_a", "_b"} {
		one.initialize(topic + name)
		want = append(want, topic+name)
	}
	one.publish(topic+"_b", "a")
	awaitCounts(two, topic+"_b", "", 1, 0, "when a message waits")
	slices.Sort(want)
	states := queueStates(two)
	var got []string
	names := map[string]bool{}
	for _, s := range states {
		if strings.HasPrefix(s.Topic, topic) {
			got = append(got, s.Topic)
		}
		h.require(s.Queue != "" && !names[s.Queue], "two queues are called %q", s.Queue)
		names[s.Queue] = true
	}
	h.require(slices.Equal(got, want), "the queues of the topics %q are listed instead of %q", got, want)
	h.require(slices.IsSortedFunc(states, func(a, b backend.QueueState) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
	}), "the queues are not in the order of their topics and groups")
}

func groupsHaveQueues(h *harness) {
	topic := h.topic()
	two, one := connect(h, PeerConfig{Group: "two"}), connect(h, PeerConfig{Group: "one"})
	two.initialize(topic)
	one.initialize(topic)
	look := connect(h, PeerConfig{})
	look.publish(topic, "a", "b", "c")
	for _, group := range []string{"one", "two"} {
		awaitCounts(look, topic, group, 3, 0, "when three messages wait for each group")
	}
	one.subscribe(topic).ackAll("a", "b", "c")
	done := awaitCounts(look, topic, "one", 0, 0, "when this group has acked all")
	waiting := awaitCounts(look, topic, "two", 3, 0, "when only the other group has acked all")
	h.require(done.Queue != waiting.Queue, "two groups have one queue, %q", done.Queue)
	var groups []string
	for _, s := range queueStates(look) {
		if s.Topic == topic && s.Group != "" {
			groups = append(groups, s.Group)
		}
	}
	h.require(slices.Equal(groups, []string{"one", "two"}), "the queues of the groups %q are listed instead of those of one and two", groups)
}

func deadLettersHaveQueue(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	dead := topic + backend.DeadLetterSuffix
	p.initialize(dead)
	in := p.subscribe(topic)
	p.publish(topic, "a", "b")
	received := in.receiveAll("a", "b")
	giveUp(h, received["a"], dead)
	awaitCounts(p, dead, "", 1, 0, "when a message was dead-lettered")
	awaitCounts(p, topic, "", 0, 1, "when one of two messages was dead-lettered")
	h.ack(received["b"])
}

func trafficIsCounted(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	before := awaitCounts(two, topic, "", 0, 0, "when nothing was published")
	in := one.subscribe(topic)
	one.publish(topic, "a", "b", "c", "d", "e")
	received := in.receiveAll("a", "b", "c", "d", "e")
	h.nack(received["a"])
	for _, label := range []string{"b", "c"} {
		h.ack(received[label])
	}
	h.ack(in.expect("a"))
	h.nack(received["d"])
	h.nack(received["e"])
	one.mustClose() // while it rests, it may keep what it has counted
	awaitState(two, topic, "", "tell that five messages came and three were acked, or -1", func(s backend.QueueState) bool {
		if before.Added == -1 && before.Removed == -1 {
			return s.Added == -1 && s.Removed == -1
		}
		return s.Added-before.Added == 5 && s.Removed-before.Removed == 3
	})
}

func bindingsTellGroups(h *harness) {
	topic := h.topic()
	want := []backend.Binding{{Topic: topic + ".b", Group: "one"}, {Topic: topic + ".a", Group: "two"}, {Topic: topic + ".a", Group: "one"}}
	if h.promises.Patterns {
		want = append(want, backend.Binding{Topic: topic + ".*", Group: "three"})
	}
	for _, b := range want {
		connect(h, PeerConfig{Group: b.Group}).initialize(b.Topic)
	}
	look := connect(h, PeerConfig{})
	look.initialize(topic + ".c")
	states := queueStates(look)
	for i, b := range want {
		state, ok := stateIn(h, states, b.Topic, b.Group)
		h.require(ok, "the queue of the group %q of %q has no state", b.Group, b.Topic)
		want[i].Queue = state.Queue
	}
	slices.SortFunc(want, func(a, b backend.Binding) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
	})
	var all, got []backend.Binding
	h.must("Bindings", func() (err error) {
		all, err = inspectorOf(look).Bindings(h.ctx)
		return err
	})
	for _, b := range all {
		if strings.HasPrefix(b.Topic, topic) && b.Group != "" {
			got = append(got, b)
		}
	}
	h.require(slices.Equal(got, want), "the bindings are %+v instead of %+v", got, want)
	h.require(slices.IsSortedFunc(all, func(a, b backend.Binding) int { return cmp.Compare(a.Topic, b.Topic) }), "the bindings are not in the order of their topics")
}

// allPauses returns the pauses of the topics of a case, as AllPauses does.
func allPauses(p *peer, topic string) (pauses []backend.Paused) {
	var all []backend.Paused
	p.h.must("AllPauses", func() (err error) {
		all, err = inspectorOf(p).AllPauses(p.h.ctx)
		return err
	})
	for _, paused := range all {
		if strings.HasPrefix(paused.Topic, topic) {
			pauses = append(pauses, paused)
		}
	}
	return pauses
}

func allPausesAreTold(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	for _, name := range []string{"_c", "_a", "_b"} {
		pauseTopic(one, topic+name, "by "+name, 0)
	}
	pauseTopic(one, topic+"_d", "by _d", noticeableDelay(h))
	resumeTopic(one, topic+"_b", true)
	time.Sleep(noticeableDelay(h) + slack)
	pauses := allPauses(two, topic)
	h.require(len(pauses) == 2, "%d pauses are told of instead of 2: two hold, one was resumed, and one has ended", len(pauses))
	for i, name := range []string{"_a", "_c"} {
		got := pauses[i]
		h.require(got.Topic == topic+name && got.By == "by "+name && got.Reason == "reason of by "+name && got.Group == "" && got.Until.IsZero(),
			"the pause %+v is told of instead of that of %q", got, topic+name)
	}
	resumeTopic(two, topic+"_a", true)
	resumeTopic(two, topic+"_c", true)
	h.require(len(allPauses(one, topic)) == 0, "pauses are told of that were resumed")
}

// lookWays are the methods of an Inspector, each with its name.
func lookWays(p *peer, topic string) map[string]func() error {
	inspector, ctx := inspectorOf(p), p.h.ctx
	return map[string]func() error{
		"QueueStates": func() error { _, err := inspector.QueueStates(ctx); return err },
		"Bindings":    func() error { _, err := inspector.Bindings(ctx); return err },
		"AllPauses":   func() error { _, err := inspector.AllPauses(ctx); return err },
		"Peek":        func() error { _, err := inspector.Peek(ctx, topic, backend.Peek{}); return err },
	}
}

func looksAtOnce(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	ways := lookWays(p, topic)
	delete(ways, "QueueStates") // which may have to be repeated while other cases create queues
	looking := make(chan struct{}, 4)
	for range cap(looking) {
		go func() {
			defer func() { looking <- struct{}{} }()
			queueStates(p) // once: it looks at the queues of all cases
			for range 5 {
				for name, look := range ways {
					h.must(name, look)
				}
			}
		}()
	}
	p.publish(topic, numbered(20)...)
	in.ackAll(numbered(20)...)
	for range cap(looking) {
		next(h, looking, "not all have looked")
	}
	awaitCounts(p, topic, "", 0, 0, "when all were acked")
}

func closedInspectorRefuses(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	ways := lookWays(p, topic)
	queueStates(p)
	p.mustClose()
	for name, look := range ways {
		err := h.call(name+" after Close", look)
		h.requireRefusal(err)
		h.require(errors.Is(err, backend.ErrClosed), "%s after Close returned the error %v instead of ErrClosed", name, err)
	}
}
