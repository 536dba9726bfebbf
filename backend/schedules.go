package backend

import (
	"context"
	"fmt"
	"time"
)

// Scheduler is a backend that promises Schedules.
type Scheduler interface {
	// Schedules returns what tells about the schedules of all programs, and pauses them.
	Schedules() Schedules
}

// Schedules lists and pauses schedules, in all processes: see [ScheduleTick]. Its methods may be called
// concurrently.
type Schedules interface {
	// List returns the schedules that the backend knows, in the order of their names. If it does not list
	// all, it returns the first ones and a *[TruncatedError].
	List(ctx context.Context) ([]ScheduleState, error)

	// Pause has nothing published for the ticks of a schedule until Resume, or until p.For has passed.
	// These ticks count as taken: they are not made up for, also if no process was there to take them. After
	// a pause that another one has replaced, no earlier tick is made up for. The pause is stored, and holds in all
	// processes. Of two pauses the one that ends later holds, and Pause returns that; its Topic
	// and Group are empty. A schedule that the backend does not know is a *[RefusedError].
	Pause(ctx context.Context, schedule string, p Pause) (Paused, error)

	// Resume ends the pause of a schedule, and reports whether there was one.
	Resume(ctx context.Context, schedule string) (resumed bool, err error)
}

// ScheduleState is what a backend knows about a schedule.
type ScheduleState struct {
	Name string

	// Last is the last tick that is taken: its messages were published, or it passed in a pause. Before the
	// first one it is when the backend saw the schedule first. After a pause that another one has replaced, it is
	// when that happened, or when the pause had ended.
	Last time.Time

	// Next is the tick to come, as the process said that took the last one. It is the zero Time if
	// it did not say, or if there is none.
	Next time.Time

	Paused *Paused // the pause that holds now; nil if there is none
}

// overdueAfter is how late a tick may be that a program takes: clocks differ, and publishing takes time.
const overdueAfter = 10 * time.Second

// OverdueAt reports whether the Next tick should have been taken some time before now, and was not: no program runs the
// schedule, or none can publish. One that is paused is never overdue.
func (s ScheduleState) OverdueAt(now time.Time) bool {
	return s.Paused == nil && !s.Next.IsZero() && now.Sub(s.Next) > overdueAfter
}

// UnknownSchedule returns why a schedule cannot be paused that the backend does not know.
func UnknownSchedule(name string) error {
	return &RefusedError{
		What: fmt.Sprintf("the schedule %.100q", name), Reason: "it is not known",
		Remedy: "check the name: a schedule is known once a program has run it",
	}
}
