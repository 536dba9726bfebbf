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
			needsTicks, tickIsStoredOnce),
		promise("a tick that is to come is early",
			"What is published for a tick whose time has not come is not stored, and its time still comes.",
			needsTicks, tickToComeIsEarly),
		promise("a schedule begins when it is first seen",
			"A tick that is past when its schedule is first seen counts as taken: nothing is stored.",
			needsTicks, scheduleBeginsNow),
	)
}

// tick publishes a message for a tick and returns what the backend reports. Any goroutine
// may call it.
func (p *peer) tick(topic, schedule string, at time.Time, label string) backend.TickResult {
	tick := &backend.ScheduleTick{Schedule: schedule, At: at}
	msg := p.b.message(label)
	msg.SetContext(backend.WithScheduleTick(p.b.ctx, tick))
	p.send(topic, msg)
	result, ok := tick.Result()
	p.b.require(ok, "Publish returned without a report on its tick")
	return result
}

// beginSchedule makes a schedule known, and returns a tick of it that is to come.
func (p *peer) beginSchedule(topic, schedule string) time.Time {
	seen := p.tick(topic, schedule, time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), "long past")
	p.b.require(seen.Outcome == backend.TickTaken, "a tick that was past when its schedule was first seen has the outcome %d", seen.Outcome)
	return seen.Now.Add(time.Second).Truncate(time.Microsecond)
}

func tickIsStoredOnce(b *bench) {
	one, two, topic, schedule := b.connect(Options{}), b.connect(Options{}), b.topic(), b.topic()
	in := one.subscribe(topic)
	at := one.beginSchedule(topic, schedule)
	time.Sleep(time.Second + slack) // until it is due
	outcomes := make(chan backend.TickResult, 8)
	var publishing sync.WaitGroup
	for range cap(outcomes) / 2 {
		for _, p := range []*peer{one, two} {
			publishing.Go(func() { outcomes <- p.tick(topic, schedule, at, "due") })
		}
	}
	publishing.Wait()
	close(outcomes)
	published := 0
	for r := range outcomes {
		b.require(r.Outcome != backend.TickEarly, "a tick that is due is early")
		b.require(r.Last.Equal(at), "the last tick is said to be %v instead of %v", r.Last, at)
		if r.Outcome == backend.TickPublished {
			published++
		}
	}
	b.require(published == 1, "%d of several publishers of one tick were told that theirs is stored", published)
	again := two.tick(topic, schedule, at.Add(-time.Millisecond), "passed over")
	b.require(again.Outcome == backend.TickTaken, "a tick before the last one has the outcome %d", again.Outcome)
	b.ack(in.expect("due"))
	in.none(moment, "its tick was taken")
}

func tickToComeIsEarly(b *bench) {
	p, topic, schedule := b.connect(Options{}), b.topic(), b.topic()
	in := p.subscribe(topic)
	at := p.beginSchedule(topic, schedule)
	early := p.tick(topic, schedule, at.Add(time.Hour), "early")
	b.require(early.Outcome == backend.TickEarly, "a tick in an hour has the outcome %d", early.Outcome)
	in.none(moment, "its time has not come")
	time.Sleep(time.Second + slack - moment)
	due := p.tick(topic, schedule, at, "due")
	b.require(due.Outcome == backend.TickPublished, "a tick that is due has the outcome %d", due.Outcome)
	b.ack(in.expect("due"))
}

func scheduleBeginsNow(b *bench) {
	p, topic, schedule := b.connect(Options{}), b.topic(), b.topic()
	in := p.subscribe(topic)
	p.beginSchedule(topic, schedule)
	in.none(moment, "its tick was past when the schedule began")
}
