package schedule

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// entry is one schedule and its event.
type entry struct {
	timetable *Timetable
	name      string
	schedule  Schedule
	event     any
	opts      []ezq.PublishOption

	last     time.Time // the latest tick that was taken, by any process
	paused   bool      // the last tick passed in a pause
	failures int       // since the last success
}

const (
	maxPause   = time.Minute // a clock that is set is noticed by then
	firstRetry = time.Second
	maxRetry   = time.Minute
)

// run publishes one tick after the other until ctx ends.
func (e *entry) run(ctx context.Context) {
	e.last = e.startingPoint(time.Now())
	for {
		pause := e.catchUp(ctx)
		timer := time.NewTimer(min(pause, maxPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// catchUp publishes the ticks that have come, and returns the time until the next one.
func (e *entry) catchUp(ctx context.Context) (pause time.Duration) {
	for _, at := range e.due(time.Now()) {
		if ctx.Err() != nil {
			return 0
		}
		if !at.After(e.last) { // other processes are ahead
			continue
		}
		if pause, done := e.tryPublish(ctx, at); !done {
			return pause
		}
	}
	next := e.next(e.last)
	if next.IsZero() { // the schedule has ended
		return maxPause
	}
	return max(time.Until(next), 0)
}

// tryPublish publishes the event of one tick, unless another process has. If it cannot,
// it returns how long to wait.
func (e *entry) tryPublish(ctx context.Context, at time.Time) (pause time.Duration, done bool) {
	ctx = context.WithoutCancel(ctx) // a stop must not leave it open whether the event was stored
	tick := &backend.ScheduleTick{Schedule: e.name, At: at, Next: e.nextFromNow(at)}
	if err := e.publish(backend.WithScheduleTick(ctx, tick), e.timetable.publisher, at, ""); err != nil {
		e.failures++
		pause = min(firstRetry<<min(e.failures-1, 10), maxRetry)
		pause -= rand.N(pause / 5) //nolint:gosec // chance only spreads load, and may be guessed
		e.timetable.config.Logger.ErrorContext(ctx, "schedule: event not published",
			"schedule", e.name, "tick", at, "failures", e.failures, "retry_in", pause.Round(time.Millisecond).String(), "error", err)
		return pause, false
	}
	e.failures = 0
	result, _ := tick.Result()
	if result.Outcome == backend.TickEarly {
		return max(at.Sub(result.Now), time.Millisecond), false
	}
	if paused := result.Outcome == backend.TickPaused; paused != e.paused {
		e.paused = paused
		text := "schedule: ticks do not pass in a pause any more"
		if paused {
			text = "schedule: a tick passes in a pause of the schedule, as do those after it until the pause ends"
		}
		e.timetable.config.Logger.InfoContext(ctx, text, "schedule", e.name, "tick", at)
	}
	e.last = at
	if last := result.Last; result.Outcome == backend.TickTaken && last.After(at) {
		e.last = last
	}
	return 0, true
}

const (
	scheduleHeader  = "schedule"
	tickHeader      = "tick"
	triggeredHeader = "triggered_by"
)

// publish publishes the event of a tick, or if triggeredBy is not "", one that was triggered.
func (e *entry) publish(ctx context.Context, p message.Publisher, at time.Time, triggeredBy string) error {
	opts := append(slices.Clip(e.opts),
		ezq.Header(scheduleHeader, e.name), ezq.Header(tickHeader, at.UTC().Format(time.RFC3339Nano)))
	if triggeredBy != "" {
		opts = append(opts, ezq.Header(triggeredHeader, triggeredBy))
	}
	return ezq.Publish(ctx, p, e.event, opts...)
}

// Tick is one time of a schedule, for which one event is published.
type Tick struct {
	Schedule string    // the name given to [Timetable.Add]
	At       time.Time // in UTC

	// TriggeredBy is what [Timetable.Trigger] was given; At is then when it was called. It is "" for
	// an event that was published at its time.
	TriggeredBy string
}

// TickFromContext returns the tick of the event that is being handled in ctx. ok is false if the event was not
// published by a [Timetable]. It reads headers of the event, which any publisher to the topic can write: of publishers
// that you do not trust, it proves nothing.
func TickFromContext(ctx context.Context) (tick Tick, ok bool) {
	headers := ezq.MetaFromContext(ctx).Headers
	at, err := time.Parse(time.RFC3339Nano, headers[tickHeader])
	if name := headers[scheduleHeader]; name != "" && err == nil {
		return Tick{Schedule: name, At: at, TriggeredBy: headers[triggeredHeader]}, true
	}
	return Tick{}, false
}

// due returns the ticks after e.last up to now, the latest CatchUp of them.
func (e *entry) due(now time.Time) (ticks []time.Time) {
	limit := e.timetable.config.CatchUp
	for at := e.next(e.last); !at.IsZero() && !at.After(now); at = e.next(at) {
		if len(ticks) == limit {
			ticks = append(ticks[:0], ticks[1:]...)
		}
		ticks = append(ticks, at)
	}
	return ticks
}

// next returns the tick after t. A tick that is not later than t ends the schedule, so
// that a faulty [Schedule] cannot repeat ticks for ever.
func (e *entry) next(t time.Time) time.Time {
	if next := e.schedule.Next(t).Truncate(time.Microsecond); next.After(t) {
		return next
	}
	return time.Time{}
}

// nextFromNow returns the tick to come after t and now, or the zero Time if there is none.
func (e *entry) nextFromNow(t time.Time) time.Time {
	if now := time.Now(); now.After(t) {
		t = now
	}
	return e.next(t)
}

// startingPoint returns a time before now, so that the ticks that may have been missed lie in
// between. A schedule computes only the next tick, so the time is found by looking further
// and further back.
func (e *entry) startingPoint(now time.Time) time.Time {
	const furthest = 10 * 365 * 24 * time.Hour
	for back := time.Minute; ; back *= 2 {
		e.last = now.Add(-back)
		if back >= furthest || len(e.due(now)) == e.timetable.config.CatchUp {
			return e.last
		}
	}
}
