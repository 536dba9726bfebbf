package backend

import (
	"context"
	"time"
)

// Rescheduler moves messages that wait to another time.
type Rescheduler interface {
	// Reschedule has the messages of topic that the selection chooses, and that wait, delivered
	// no sooner than at, by the clock of the backend. If that has passed, or is the zero Time, they
	// are due at once; one that was due already keeps its place. Consumers are told.
	//
	// Which messages those are, and which are counted as Busy, is what [Canceller] says. A
	// message keeps its ID, its key, the time when it was published, and the count of its
	// deliveries and failures. One that has been delivered before counts as Busy until at, and
	// what a handler still makes of it counts as well.
	//
	// If Reschedule does not look at everything, it returns what it has done and a
	// *[TruncatedError]. After any error it can be called again.
	Reschedule(ctx context.Context, topic string, s Selection, at time.Time) (Rescheduled, error)
}

// Rescheduled is what [Rescheduler] has done.
type Rescheduled struct {
	Moved int // messages that have the new time; each group has one of its own
	Busy  int // messages that are chosen, and keep theirs
}

// CheckRescheduleTime returns a *[RefusedError] if no message can be delivered at that time.
func CheckRescheduleTime(at time.Time) error {
	if year := at.UTC().Year(); year > 9999 {
		return &RefusedError{What: "the time", Reason: "it is after the year 9999", Remedy: "use an earlier one, or cancel the message"}
	}
	return nil
}
