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
		promise("a paused schedule stores nothing",
			"While a schedule is paused, no process stores what is published for its ticks, and these are taken; when it is resumed, the next tick is stored, and only that.",
			needsSchedules, pausedScheduleStoresNothing),
		promise("a tick of a pause that is over passes",
			"A tick whose time came in a pause is not stored afterwards either: not if no process took it before the pause ended, and not if another pause has followed.",
			needsSchedules, tickOfEndedPausePasses),
		promise("schedules are listed",
			"A schedule is listed to other processes with its last tick, the one to come, and its pause, which is the longer one of two.",
			needsSchedules, schedulesAreListed),
		promise("what cannot be paused is refused",
			"To pause a schedule that is not known, or without an author or a reason, is an error, and pauses nothing.",
			needsSchedules, unknownScheduleIsRefused),
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

// schedulesOf returns the schedules of a publisher that promises ticks.
func schedulesOf(p *peer) backend.Schedules {
	scheduler, ok := p.Publisher.(backend.Scheduler)
	p.h.require(ok, "the publisher is no backend.Scheduler")
	return scheduler.Schedules()
}

func pauseSchedule(p *peer, schedule, by string, d time.Duration) (paused backend.Paused) {
	p.h.must("Schedules.Pause", func() (err error) {
		paused, err = schedulesOf(p).Pause(p.h.ctx, schedule, backend.Pause{By: by, Reason: "reason of " + by, For: d})
		return err
	})
	return paused
}

func resumeSchedule(p *peer, schedule string, want bool) {
	var resumed bool
	p.h.must("Schedules.Resume", func() (err error) {
		resumed, err = schedulesOf(p).Resume(p.h.ctx, schedule)
		return err
	})
	p.h.require(resumed == want, "Schedules.Resume reports %v instead of %v", resumed, want)
}

// listed returns what is told of a schedule. There may be others, of other cases.
func listed(p *peer, schedule string) backend.ScheduleState {
	var all []backend.ScheduleState
	p.h.must("Schedules.List", func() (err error) {
		all, err = schedulesOf(p).List(p.h.ctx)
		return err
	})
	for _, one := range all {
		if one.Name == schedule {
			return one
		}
	}
	p.h.fail("of %d schedules that are listed, none is the one that was published for", len(all))
	return backend.ScheduleState{}
}

func pausedScheduleStoresNothing(h *harness) {
	one, two, topic, schedule := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic(), h.topic()
	in := one.subscribe(topic)
	first := beginSchedule(one, topic, schedule)
	pauseSchedule(two, schedule, "a", 0)
	time.Sleep(time.Second + 2*slack) // until the ticks are due
	passed := publishTick(one, topic, schedule, first, "in the pause")
	h.require(passed.Outcome == backend.TickPaused, "a tick of a paused schedule has the outcome %q", passed.Outcome)
	h.require(passed.Last.Equal(first), "the last tick is said to be %v instead of %v", passed.Last, first)
	resumeSchedule(one, schedule, true)
	resumeSchedule(two, schedule, false)
	again := publishTick(two, topic, schedule, first, "in the pause, again")
	h.require(again.Outcome == backend.TickTaken, "a tick that has passed in a pause has the outcome %q", again.Outcome)
	nextTickIsStored(two, in, topic, schedule)
}

// nextTickIsStored ends the case unless a tick of a schedule whose pause is over is stored, and nothing else was.
func nextTickIsStored(p *peer, in *inbox, topic, schedule string) {
	now := publishTick(p, topic, schedule, time.Now().Add(time.Hour), "early").Now // by the clock of the backend
	next := publishTick(p, topic, schedule, now.Truncate(time.Microsecond), "next")
	p.h.require(next.Outcome == backend.TickPublished, "the tick after the pause has the outcome %q", next.Outcome)
	p.h.ack(in.expect("next"))
	in.none(quietPeriod, "its tick has passed in the pause")
}

func tickOfEndedPausePasses(h *harness) {
	one, two, topic, schedule := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic(), h.topic()
	in := one.subscribe(topic)
	beginSchedule(one, topic, schedule)
	passes := func(what string, paused backend.Paused) {
		late := publishTick(one, topic, schedule, paused.Since.Add(time.Millisecond).Truncate(time.Microsecond), what)
		h.require(late.Outcome == backend.TickPaused || late.Outcome == backend.TickTaken, "a tick of a pause %s has the outcome %q", what, late.Outcome)
	}
	brief := pauseSchedule(one, schedule, "brief", time.Second)
	time.Sleep(time.Second + slack)
	passes("that has ended", brief)
	endless := pauseSchedule(two, schedule, "endless", 0)
	time.Sleep(slack)
	resumeSchedule(one, schedule, true)
	passes("that was resumed", endless)
	brief = pauseSchedule(one, schedule, "brief", time.Second)
	time.Sleep(slack)
	longer := pauseSchedule(two, schedule, "longer", time.Hour)
	time.Sleep(slack)
	resumeSchedule(two, schedule, true)
	passes("that a longer one has replaced", brief)
	passes("that has replaced another one", longer)
	brief = pauseSchedule(one, schedule, "brief", slack)
	time.Sleep(2 * slack)
	pauseSchedule(two, schedule, "endless", 0)
	resumeSchedule(one, schedule, true)
	passes("that had ended before another one", brief)
	nextTickIsStored(two, in, topic, schedule)
}

func schedulesAreListed(h *harness) {
	one, two, topic, schedule := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic(), h.topic()
	one.initialize(topic)
	begun := beginSchedule(one, topic, schedule)
	requireTime := func(what string, got, want time.Time) {
		h.require(got.Equal(want), "%s is said to be %v instead of %v", what, got, want)
	}
	time.Sleep(time.Second + slack)
	tick := &backend.ScheduleTick{Schedule: schedule, At: begun, Next: begun.Add(time.Hour)}
	msg := h.message("a")
	msg.SetContext(backend.WithScheduleTick(h.ctx, tick))
	one.send(topic, msg)
	got := listed(two, schedule)
	requireTime("the last tick", got.Last, begun)
	requireTime("the next tick", got.Next, tick.Next)
	h.require(got.Paused == nil, "a schedule that is not paused is listed as paused")
	for _, step := range []struct {
		by   string
		d    time.Duration
		want string
	}{{"first", time.Hour, "first"}, {"shorter", time.Minute, "first"}, {"endless", 0, "endless"}, {"last", time.Hour, "endless"}} {
		paused := pauseSchedule(two, schedule, step.by, step.d)
		h.require(paused.By == step.want, "the pause of %q holds, as it says, instead of that of %q", paused.By, step.want)
		told := listed(one, schedule).Paused
		h.require(told != nil, "a paused schedule is not listed as paused")
		h.require(told.By == step.want && told.Reason == "reason of "+step.want && told.Until.Equal(paused.Until),
			"the pause %+v is listed instead of that of %q", *told, step.want)
	}
	resumeSchedule(two, schedule, true)
	h.require(listed(one, schedule).Paused == nil, "a schedule that was resumed is listed as paused")
	pauseSchedule(one, schedule, "brief", time.Millisecond)
	time.Sleep(slack)
	h.require(listed(two, schedule).Paused == nil, "a schedule whose pause is over is listed as paused")
}

func unknownScheduleIsRefused(h *harness) {
	p, topic, schedule := connect(h, PeerConfig{}), h.topic(), h.topic()
	in := p.subscribe(topic)
	at := beginSchedule(p, topic, schedule)
	good := backend.Pause{By: "a", Reason: "r"}
	for _, bad := range []struct {
		schedule string
		pause    backend.Pause
	}{{h.topic(), good}, {schedule, backend.Pause{By: "a"}}, {schedule, backend.Pause{Reason: "r"}}, {schedule, backend.Pause{By: "a", Reason: "r", For: -1}}} {
		err := h.call("Schedules.Pause", func() error {
			_, err := schedulesOf(p).Pause(h.ctx, bad.schedule, bad.pause)
			return err
		})
		h.require(err != nil, "Schedules.Pause accepted the pause %+v of the schedule %q", bad.pause, bad.schedule)
		h.requireRefusal(err)
	}
	time.Sleep(time.Second + slack)
	due := publishTick(p, topic, schedule, at, "due")
	h.require(due.Outcome == backend.TickPublished, "a tick has the outcome %q after a pause was refused", due.Outcome)
	h.ack(in.expect("due"))
}
