package backend

import (
	"context"
	"sync/atomic"
	"time"
)

// ScheduleTick is one moment of a schedule that several processes keep. In the context of a
// publish it asks a backend that promises Schedules to store the messages once: in one step
// with the schedule's new position, however many processes attempt it, and however often.
type ScheduleTick struct {
	Schedule string    // its name, the same in all processes
	At       time.Time // with microseconds at the finest
	Next     time.Time // the tick to come after now and At, for those who list schedules; zero: none is known

	result atomic.Pointer[TickResult]
}

// TickResult says what came of a [ScheduleTick].
type TickResult struct {
	Outcome TickOutcome

	// Now is the time by the clock of the backend, which decides.
	Now time.Time

	// Last is the last tick that is taken, this one included, or when the backend saw
	// the schedule first.
	Last time.Time
}

// TickOutcome is the kind of a [TickResult].
type TickOutcome uint8

const (
	// TickPublished means that the messages are stored, and the tick is taken.
	TickPublished TickOutcome = iota

	// TickTaken means that nothing was stored. This tick or a later one has been taken, or the
	// backend has not known the schedule until now: then all ticks up to now count as
	// taken.
	TickTaken

	// TickEarly means that nothing was stored. The time has not come.
	TickEarly

	// TickPaused means that nothing was stored, and the tick is taken: the schedule is paused, or was at the time of the tick.
	TickPaused
)

// String returns the name of the outcome in lower case.
func (o TickOutcome) String() string {
	return valueName("outcome", o, []string{TickPublished: "published", TickTaken: "taken", TickEarly: "early", TickPaused: "paused"})
}

type tickKey struct{}

// WithScheduleTick returns a context that carries t, for the messages of one publish.
func WithScheduleTick(ctx context.Context, t *ScheduleTick) context.Context {
	return context.WithValue(ctx, tickKey{}, t)
}

// ScheduleTickFromContext returns the tick in ctx, or nil. The context of the first message of a
// publish counts.
func ScheduleTickFromContext(ctx context.Context) *ScheduleTick {
	t, _ := ctx.Value(tickKey{}).(*ScheduleTick)
	return t
}

// Report is for backends, which call it before a publish without an error returns.
func (t *ScheduleTick) Report(r TickResult) { t.result.Store(&r) }

// Result returns what the backend has reported; ok is false if nothing. t may be nil, as it is for
// a publish without a tick: nothing is reported then, and the messages are stored.
func (t *ScheduleTick) Result() (r TickResult, ok bool) {
	if t == nil {
		return TickResult{}, false
	}
	if p := t.result.Load(); p != nil {
		return *p, true
	}
	return TickResult{}, false
}
