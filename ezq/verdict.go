package ezq

import (
	"errors"
	"fmt"
	"time"
)

// Verdicts are found wherever they are in the tree of wrapped and joined
// errors, so that a handler may add context to them.

// Permanent marks err as one that no retry can cure. The event is not tried again,
// whatever delay it carries too: it becomes a dead letter. The Poison of package
// middleware says where; without one the router moves it to the topic that it came from,
// with "_dead" at its end, if the backend promises DeadLetter. On a backend that does not,
// Poison with its To set is needed: without it the event does come back, and the router
// logs that as an error. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether err, or an error it wraps, came from [Permanent].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}

// RetryAfter asks for the event to be delivered again, but not before d has
// passed. Negative delays are 0: at once. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{err, max(d, 0)}
}

// RetryDelay returns the delay that [RetryAfter] put on err. ok is false if it
// did not. Of several the outermost, and then the first joined, counts.
func RetryDelay(err error) (d time.Duration, ok bool) {
	e, ok := errors.AsType[*retryAfterError](err)
	if !ok {
		return 0, false
	}
	return e.delay, true
}

// Snooze returns an error with which a handler says: not yet. The event has not failed;
// it comes back after d, and that is all: no failure and no delivery is counted, neither
// by Retry nor by Poison, and its id is the same. A handler that is too early, or was
// told by another service to come back later, returns it, also wrapped, and for one event
// of a batch in a [BatchError]. A snooze does not end by itself: a handler that has waited
// long enough returns another error.
//
// A delay of less than a millisecond is one. [Permanent] around it makes it a failure.
// Of several handlers of an event the others are done or fail as they do. A backend that
// does not promise Redelay keeps the event with the router meanwhile; a PGMQ before 1.10
// counts the delivery.
func Snooze(d time.Duration) error { return &snoozeError{max(d, time.Millisecond)} }

// SnoozeDelay returns the delay of a [Snooze] that err is, or wraps. ok is false if there
// is none, or if err is permanent.
func SnoozeDelay(err error) (d time.Duration, ok bool) {
	e, ok := errors.AsType[*snoozeError](err)
	if !ok || IsPermanent(err) {
		return 0, false
	}
	return e.delay, true
}

type snoozeError struct{ delay time.Duration }

func (e *snoozeError) Error() string { return fmt.Sprintf("ezq: snoozed for %v", e.delay) }

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

type retryAfterError struct {
	error
	delay time.Duration
}

func (e *retryAfterError) Unwrap() error { return e.error }
