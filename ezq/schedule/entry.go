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

	last     time.Time // the tick that was looked at last
	failures int       // since the last success
}

const (
	maxPause   = time.Minute // so that a clock that is set is noticed
	firstRetry = time.Second
	maxRetry   = time.Minute
)

// run looks at one tick after the other.
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

// catchUp publishes the ticks that have come, and returns how long there is nothing to
// do.
func (e *entry) catchUp(ctx context.Context) (pause time.Duration) {
	for _, at := range e.due(time.Now()) {
		if ctx.Err() != nil {
			return 0
		}
		if !at.After(e.last) { // the others have come further
			continue
		}
		if pause, done := e.tryPublish(ctx, at); !done {
			return pause
		}
	}
	next := e.next(e.last)
	if next.IsZero() { // it ends
		return maxPause
	}
	return max(time.Until(next), 0)
}

// tryPublish publishes the event of one tick, unless it was published. If it
// cannot, it returns how long to wait.
func (e *entry) tryPublish(ctx context.Context, at time.Time) (pause time.Duration, done bool) {
	ctx = context.WithoutCancel(ctx) // or a stop could leave it open what was stored
	tick := &backend.ScheduleTick{Schedule: e.name, At: at}
	if err := e.publish(backend.WithScheduleTick(ctx, tick), e.timetable.publisher, at); err != nil {
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
	e.last = at
	if last := result.Last; result.Outcome == backend.TickTaken && last.After(at) {
		e.last = last
	}
	return 0, true
}

const (
	scheduleHeader = "schedule"
	tickHeader     = "tick"
)

func (e *entry) publish(ctx context.Context, p message.Publisher, at time.Time) error {
	opts := append(slices.Clip(e.opts),
		ezq.Header(scheduleHeader, e.name), ezq.Header(tickHeader, at.UTC().Format(time.RFC3339Nano)))
	return ezq.Publish(ctx, p, e.event, opts...)
}

// Tick is what an event of a schedule is for.
type Tick struct {
	Schedule string    // the name that it was added under
	At       time.Time // when it was to be published, in UTC
}

// TickFromContext returns the tick that the event being handled in ctx is for. ok is false if the
// event is not one of a schedule.
func TickFromContext(ctx context.Context) (tick Tick, ok bool) {
	headers := ezq.MetaFromContext(ctx).Headers
	at, err := time.Parse(time.RFC3339Nano, headers[tickHeader])
	if name := headers[scheduleHeader]; name != "" && err == nil {
		return Tick{Schedule: name, At: at}, true
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

// next returns the tick after t. One that is not later ends the schedule, or there
// would be no end to it.
func (e *entry) next(t time.Time) time.Time {
	if next := e.schedule.Next(t).Truncate(time.Microsecond); next.After(t) {
		return next
	}
	return time.Time{}
}

// startingPoint returns a time before now with enough ticks in between for what may have been
// missed. A schedule only tells what comes next, so it is found by looking further and
// further back.
func (e *entry) startingPoint(now time.Time) time.Time {
	const furthest = 10 * 365 * 24 * time.Hour
	for back := time.Minute; ; back *= 2 {
		e.last = now.Add(-back)
		if back >= furthest || len(e.due(now)) == e.timetable.config.CatchUp {
			return e.last
		}
	}
}
