package ezq

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

var (
	// ErrInterrupted is the cause with which a handler's context ends when its
	// router stops and no longer waits for it. [Router.Run] returns it if
	// [InterruptEvent] was the reason.
	ErrInterrupted = backend.ErrInterrupted

	// ErrLeaseLost is the cause with which a handler's context ends when another
	// consumer may receive its event. The handler's result then changes nothing.
	ErrLeaseLost = backend.ErrLeaseLost

	// ErrCancelled is the cause with which a handler's context ends when its event was
	// cancelled: with the CancelRunning of a [backend.Canceller], or by an operator who
	// removed it in another way, such as a purge of the queue. The event is gone. It is
	// neither delivered again nor dead-lettered, whatever the handler returns. It matches
	// ErrLeaseLost, too. The context of a batch does not end with it.
	ErrCancelled = backend.ErrCancelled

	// ErrDrainTimeout is returned by [Router.Run] when handlers were still busy
	// after Config.DrainTimeout and had to be interrupted.
	ErrDrainTimeout = errors.New("ezq: handlers did not finish in time")

	// ErrInvalidConfig is matched by what [Router.Run], [Router.Attach] and [Router.Ready]
	// return because of what the router was given: no subscriber, a [Config] that is out of
	// range or names a topic without handlers, an event for [Router.Ignore] that is not unknown,
	// or a middleware that panics when the router starts. Nothing was subscribed to. Run and
	// Attach may be called again when the handlers that were missing have been added; every
	// other mistake needs a new router.
	ErrInvalidConfig = errors.New("ezq: invalid configuration")
)

// ExpiredError is why an event is a dead letter that was not handled: it came too late. See
// [Expires].
type ExpiredError = backend.ExpiredError

// configError says what is wrong with what a router was given. It matches [ErrInvalidConfig].
type configError struct {
	text  string
	cause error // or nil
}

func (e *configError) Error() string { return "ezq: " + e.text }

func (e *configError) Is(target error) bool { return target == ErrInvalidConfig }

func (e *configError) Unwrap() error { return e.cause }

// SubscriptionError is returned by [Router.Run] when a topic cannot be
// subscribed to, or stops delivering although the router has not stopped.
type SubscriptionError struct {
	Topic string

	// Err is why: if the subscription has ended, the last reason for which the backend could
	// fetch nothing. It is nil if the backend has given none.
	Err error
}

func (e *SubscriptionError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("ezq: the subscription to %q ended by itself: was the queue closed?", e.Topic)
	}
	return fmt.Sprintf("ezq: the subscription to %q failed: %v", e.Topic, e.Err)
}

// Unwrap returns e.Err.
func (e *SubscriptionError) Unwrap() error { return e.Err }

// StopError is returned by [Router.Run] when it had to interrupt handlers. It
// matches what is in Reason: [ErrDrainTimeout] or [ErrInterrupted].
type StopError struct {
	Reason error

	// Running is what handlers still work on although their contexts have ended.
	// Such events come back when their leases run out, unless the handlers return
	// before that.
	Running []Meta
}

func (e *StopError) Error() string {
	if len(e.Running) == 0 {
		return e.Reason.Error()
	}
	names := make([]string, len(e.Running))
	for i, m := range e.Running {
		names[i] = fmt.Sprintf("%s %s on %q", m.Event, m.ID, m.Topic)
	}
	return fmt.Sprintf("%v; still running: %s", e.Reason, strings.Join(names, ", "))
}

// Unwrap returns e.Reason.
func (e *StopError) Unwrap() error { return e.Reason }

// DecodeError is a payload that is not a valid event of the type that its
// handler takes. No retry cures it.
//
// Printed or encoded, it does not quote the payload, except for the character that
// makes its JSON invalid. Of an error of encoding/json it shows the field and the
// types, of a [time.Time] that has no zone, or is none, the field, and of any other type
// that decodes itself its type only.
type DecodeError struct {
	Event string // the name of the event
	Err   error  // as it came: it may quote the payload
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("ezq: decode %s: %s", e.Event, redacted(e.Err))
}

// MarshalText returns what Error does.
func (e *DecodeError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns e.Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// payloadError is what is wrong with a payload, in words that are not from there.
type payloadError string

func (d payloadError) Error() string { return string(d) }

// redacted returns what err says, if that is known not to quote a payload.
func redacted(err error) string {
	if known, ok := errors.AsType[payloadError](err); ok {
		return known.Error()
	}
	if field, ok := errors.AsType[*timeFieldError](err); ok {
		return field.Error()
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return syntax.Error()
	}
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(mismatch.Value, " ") // a number comes with its digits
		if mismatch.Field == "" {
			return fmt.Sprintf("json: cannot unmarshal %s into a value of type %s", kind, mismatch.Type)
		}
		return fmt.Sprintf("json: cannot unmarshal %s into %s.%s of type %s", kind, mismatch.Struct, mismatch.Field, mismatch.Type)
	}
	return fmt.Sprintf("a decoder failed with a %T, not shown because it may quote the payload", err)
}

// timeFieldError is a field of an event that holds something else than a time in
// RFC 3339: in Python usually a datetime without a zone.
type timeFieldError struct {
	field string // as it is named on the wire
	err   error
}

func (e *timeFieldError) Error() string {
	return fmt.Sprintf("the field %q is not a time in RFC 3339 with a zone, like 2026-11-28T12:00:00Z:"+
		" in Python publish datetime.now(timezone.utc), not utcnow()", e.field)
}

func (e *timeFieldError) Unwrap() error { return e.err }

// UnknownEventError is an event that has had no handler on its topic for as long as
// Config.UnknownFor. No retry by the same program cures it.
type UnknownEventError struct {
	Topic string

	// Event is the name of the event. It is "" if the message names none, and
	// the topic's handlers are not exactly one.
	Event string
}

func (e *UnknownEventError) Error() string {
	if e.Event == "" {
		return fmt.Sprintf("ezq: a message on topic %q names no event, so there is no handler for it: "+
			"publish it with a _type, or give its kind a topic of its own", e.Topic)
	}
	return fmt.Sprintf("ezq: no handler for event %q on topic %q: add one with Handle, or name it with Router.Ignore", excerpt.Of(e.Event), e.Topic)
}

// PanicError is what a handler that panics fails with.
type PanicError struct {
	// Value is what was given to panic.
	Value any

	// Stack is the stack of the goroutine that panicked, as debug.Stack
	// formats it. It is not part of the error's text.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("ezq: handler panicked: %v", e.Value) }

// Unwrap returns e.Value if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// EventTypeError is a type that cannot be an event: it has no name to travel
// under, or no wire form that could carry one.
type EventTypeError struct {
	Type   string // as Go writes it
	Reason string // what is wrong with it
	Remedy string // what to do
}

func (e *EventTypeError) Error() string {
	return fmt.Sprintf("event type %s %s: %s", e.Type, e.Reason, e.Remedy)
}

// Permanent, RetryAfter and Snooze are found wherever they are in the tree of wrapped
// and joined errors, so that a handler may add context to them.

// Permanent marks err as one that no retry can cure. The event is not tried again,
// whatever delay it carries too: it becomes a dead letter. The Poison of package
// middleware names the topic for it. Without Poison, the router moves it to the topic that
// it came from, with "_dead" at its end, if the backend promises DeadLetter. On a backend
// that does not, set Poison.To: otherwise the event is delivered again, and the router
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

// Snooze returns an error that postpones an event. The event has not failed: it is
// released, and delivered again after d. No failure and no delivery is counted, neither
// by Retry nor by Poison, and its id is the same. A handler that runs too early, or is
// refused for now by a service that it calls, returns it, also wrapped, and for one event
// of a batch in a [BatchError]. The number of snoozes has no limit: a handler that has
// waited long enough returns another error.
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
