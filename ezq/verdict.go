package ezq

import (
	"errors"
	"time"
)

// A handler decides what becomes of its event by what it returns:
//
//	nil                  the event is done
//	an error             it failed, and may be tried again
//	Permanent(err)       it failed, and no retry can cure it
//	RetryAfter(d, err)   it failed, and should wait d before its next try
//
// There is nothing else to return. A panic counts as an error. An error
// returned after the handler's context ended with [ErrInterrupted] is no
// failure: the event goes back as if it had never been delivered.
//
// Verdicts are found wherever they are in the tree of wrapped and joined
// errors. An error that is permanent is not tried again, whatever delay it
// carries too.

// Permanent marks err as one that no retry can cure. Permanent(nil) is nil.
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

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

type retryAfterError struct {
	error
	delay time.Duration
}

func (e *retryAfterError) Unwrap() error { return e.error }
