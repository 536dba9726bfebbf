package conformance

import (
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func pauses() []Case {
	return theme("pauses",
		promise("a paused topic hands over nothing",
			"While a topic is paused, no process hands over a message that is published then, or that was fetched and not handed over; once it is resumed, all of them come, in their first delivery.",
			needsPauses, pausedTopicHandsOverNothing),
		promise("a pause leaves handlers alone",
			"A message that was handed over before the pause stays with its handler, and its ack counts.",
			needsPauses, pauseLeavesHandlersAlone),
		promise("a pause holds for those that come later",
			"A process that subscribes while the topic is paused hands over nothing until it is resumed.",
			needsPauses, pauseHoldsForLatecomers),
		promise("a pause ends by itself",
			"A topic that is paused for a time hands over messages again when that is over, and not sooner.",
			needsPauses, pauseEndsByItself),
		promise("the longer pause holds",
			"A pause that would end sooner than the one that holds changes nothing, and one that ends later takes its place; who paused the topic, and why, is told.",
			needsPauses, longerPauseHolds),
		promise("a pause that does not say who and why is refused",
			"Pause returns an error if it has no author or no reason, or a negative duration, and pauses nothing.",
			needsPauses, silentPauseIsRefused),
		promise("a client with a group pauses that group",
			"The pause of a client that has a group stops that group alone, and says so; a client of another group does not resume it.",
			needsPauses|needsGroups, clientPausesItsGroup),
	)
}

func pauserOf(p *peer) backend.Pauser {
	pauser, ok := p.Publisher.(backend.Pauser)
	p.h.require(ok, "the publisher is no backend.Pauser")
	return pauser
}

// pauseTopic pauses a topic, and returns what holds then.
func pauseTopic(p *peer, topic, by string, d time.Duration) (paused backend.Paused) {
	p.h.must("Pause", func() (err error) {
		paused, err = pauserOf(p).Pause(p.h.ctx, topic, backend.Pause{By: by, Reason: "reason of " + by, For: d})
		return err
	})
	return paused
}

func resumeTopic(p *peer, topic string, want bool) {
	var resumed bool
	p.h.must("Resume", func() (err error) {
		resumed, err = pauserOf(p).Resume(p.h.ctx, topic)
		return err
	})
	p.h.require(resumed == want, "Resume reports %v instead of %v", resumed, want)
}

// awaitPause publishes one message after the other, and acks them, until one does not come within
// the quiet period, and returns its label.
func awaitPause(p *peer, topic string, in *inbox, quiet time.Duration) string {
	end := time.Now().Add(p.h.timeout)
	for i := 0; time.Now().Before(end); i++ {
		label := "probe " + strconv.Itoa(i)
		p.publish(topic, label)
		msg := in.within(quiet)
		if msg == nil {
			return label
		}
		p.h.ack(msg)
		time.Sleep(quietPeriod)
	}
	p.h.fail("messages are handed over %v after the topic was paused", p.h.timeout)
	return ""
}

// ackFirstDeliveries acks messages, each in its first delivery, until each label has come.
func ackFirstDeliveries(in *inbox, labels ...string) {
	missing := setOf(labels)
	for len(missing) > 0 {
		msg := in.receive()
		label := in.h.label(msg)
		in.h.require(missing[label], "%q came, which is not awaited", label)
		if d := backend.DeliveryFromContext(msg.Context()); d != nil && in.h.promises.Attempts {
			in.h.require(d.Number == 1, "%q came in delivery %d instead of its first: what was not handed over counts", label, d.Number)
		}
		delete(missing, label)
		in.h.ack(msg)
	}
}

func pausedTopicHandsOverNothing(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	quiet := quietBeyond(h, func() {
		one.publish(topic, "before")
		h.ack(in.expect("before"))
	})
	pauseTopic(two, topic, "a", 0)
	held := awaitPause(one, topic, in, quiet)
	two.publish(topic, "x", "y", "z")
	in.none(2*quietPeriod, "its topic is paused")
	resumeTopic(two, topic, true)
	ackFirstDeliveries(in, held, "x", "y", "z")
	resumeTopic(two, topic, false)
}

func pauseLeavesHandlersAlone(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	var msg *message.Message
	quiet := quietBeyond(h, func() {
		one.publish(topic, "handled")
		msg = in.expect("handled")
	})
	pauseTopic(two, topic, "a", 0)
	held := awaitPause(one, topic, in, quiet)
	h.require(msg.Context().Err() == nil, "the context of a message ended with the pause")
	h.ack(msg)
	in.none(quietPeriod, "its topic is paused")
	resumeTopic(one, topic, true)
	h.ack(in.expect(held))
	in.none(quietPeriod, "it was acked")
}

func pauseHoldsForLatecomers(h *harness) {
	one, topic := connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	pauseTopic(one, topic, "a", 0)
	one.publish(topic, "x")
	in := connect(h, PeerConfig{}).subscribe(topic)
	in.none(2*quietPeriod, "its topic was paused before it was subscribed to")
	resumeTopic(one, topic, true)
	h.ack(in.expect("x"))
}

func pauseEndsByItself(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	d := noticeableDelay(h)
	start := time.Now()
	paused := pauseTopic(two, topic, "a", d)
	h.require(paused.Until.Sub(start.Add(d)).Abs() <= tolerance(h)+slack, "it is said to end %v after it should", paused.Until.Sub(start.Add(d)))
	one.publish(topic, "x")
	h.ack(one.subscribe(topic).expect("x"))
	requireDelay(h, time.Since(start), d)
	resumeTopic(two, topic, false)
}

func longerPauseHolds(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	requireHeld := func(got backend.Paused, by string) {
		h.require(got.By == by && got.Reason == "reason of "+by && got.Topic == topic, "the pause of %q holds, as it says, instead of that of %q", got.By, by)
	}
	requireHeld(pauseTopic(one, topic, "first", time.Hour), "first")
	requireHeld(pauseTopic(two, topic, "shorter", time.Minute), "first")
	requireHeld(pauseTopic(two, topic, "longer", 2*time.Hour), "longer")
	requireHeld(pauseTopic(one, topic, "endless", 0), "endless")
	requireHeld(pauseTopic(two, topic, "last", time.Hour), "endless")
	var pauses []backend.Paused
	h.must("Pauses", func() (err error) {
		pauses, err = pauserOf(two).Pauses(h.ctx, topic)
		return err
	})
	h.require(len(pauses) == 1, "%d pauses are listed instead of one", len(pauses))
	requireHeld(pauses[0], "endless")
	h.require(pauses[0].Until.IsZero(), "a pause without an end is said to end")
	resumeTopic(one, topic, true)
}

func silentPauseIsRefused(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	for _, bad := range []backend.Pause{{}, {By: "a"}, {Reason: "r"}, {By: "a", Reason: "r", For: -1}, {By: "a\x00", Reason: "r"}} {
		err := h.call("Pause", func() error { _, err := pauserOf(p).Pause(h.ctx, topic, bad); return err })
		h.require(err != nil, "Pause accepted %+v", bad)
		h.requireRefusal(err)
	}
	p.publish(topic, "a", "b")
	in.ackAll("a", "b")
}

func clientPausesItsGroup(h *harness) {
	one, two, topic := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "two"}), h.topic()
	one.initialize(topic)
	two.initialize(topic)
	paused := pauseTopic(one, topic, "ada", 0)
	h.require(paused.Group == "one", "the pause is said to be that of the group %q", paused.Group)
	one.publish(topic, "a")
	first, second := one.subscribe(topic), two.subscribe(topic)
	h.ack(second.expect("a"))
	resumeTopic(two, topic, false)
	first.none(2*quietPeriod, "its group is paused")
	resumeTopic(connect(h, PeerConfig{Group: "one"}), topic, true)
	h.ack(first.expect("a"))
}
