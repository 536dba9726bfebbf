package conformance

import (
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

func ticks() []Case {
	return theme("ticks",
		promise("a tick is stored once",
			"Of several processes that publish for the same tick, also at once, one stores its messages; the others store nothing, and are told so.",
			needsSchedules, tickIsStoredOnce),
		promise("a tick that is to come is early",
			"What is published for a tick whose time has not come is not stored, and its time still comes.",
			needsSchedules, tickToComeIsEarly),
		promise("a schedule begins when it is first seen",
			"A tick that is past when its schedule is first seen counts as taken: nothing is stored.",
			needsSchedules, scheduleBeginsNow),
	)
}

// publishTick publishes a message for a tick and returns what the backend reports. Any goroutine
// may call it.
func publishTick(p *peer, topic, schedule string, at time.Time, label string) backend.TickResult {
	tick := &backend.ScheduleTick{Schedule: schedule, At: at}
	msg := p.h.message(label)
	msg.SetContext(backend.WithScheduleTick(p.h.ctx, tick))
	p.send(topic, msg)
	result, ok := tick.Result()
	p.h.require(ok, "Publish returned without a report on its tick")
	return result
}

// beginSchedule makes a schedule known, and returns a tick of it that is to come.
func beginSchedule(p *peer, topic, schedule string) time.Time {
	seen := publishTick(p, topic, schedule, time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), "long past")
	p.h.require(seen.Outcome == backend.TickTaken, "a tick that was past when its schedule was first seen has the outcome %d", seen.Outcome)
	return seen.Now.Add(time.Second).Truncate(time.Microsecond)
}

func tickIsStoredOnce(h *harness) {
	one, two, topic, schedule := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic(), h.topic()
	in := one.subscribe(topic)
	at := beginSchedule(one, topic, schedule)
	time.Sleep(time.Second + slack) // until it is due
	outcomes := make(chan backend.TickResult, 8)
	var publishing sync.WaitGroup
	for range cap(outcomes) / 2 {
		for _, p := range []*peer{one, two} {
			publishing.Go(func() { outcomes <- publishTick(p, topic, schedule, at, "due") })
		}
	}
	publishing.Wait()
	close(outcomes)
	published := 0
	for r := range outcomes {
		h.require(r.Outcome != backend.TickEarly, "a tick that is due is early")
		h.require(r.Last.Equal(at), "the last tick is said to be %v instead of %v", r.Last, at)
		if r.Outcome == backend.TickPublished {
			published++
		}
	}
	h.require(published == 1, "%d of several publishers of one tick were told that theirs is stored", published)
	again := publishTick(two, topic, schedule, at.Add(-time.Millisecond), "passed over")
	h.require(again.Outcome == backend.TickTaken, "a tick before the last one has the outcome %d", again.Outcome)
	h.ack(in.expect("due"))
	in.none(quietPeriod, "its tick was taken")
}

func tickToComeIsEarly(h *harness) {
	p, topic, schedule := connect(h, PeerConfig{}), h.topic(), h.topic()
	in := p.subscribe(topic)
	at := beginSchedule(p, topic, schedule)
	early := publishTick(p, topic, schedule, at.Add(time.Hour), "early")
	h.require(early.Outcome == backend.TickEarly, "a tick in an hour has the outcome %d", early.Outcome)
	in.none(quietPeriod, "its time has not come")
	time.Sleep(time.Second + slack - quietPeriod)
	due := publishTick(p, topic, schedule, at, "due")
	h.require(due.Outcome == backend.TickPublished, "a tick that is due has the outcome %d", due.Outcome)
	h.ack(in.expect("due"))
}

func scheduleBeginsNow(h *harness) {
	p, topic, schedule := connect(h, PeerConfig{}), h.topic(), h.topic()
	in := p.subscribe(topic)
	beginSchedule(p, topic, schedule)
	in.none(quietPeriod, "its tick was past when the schedule began")
}
