package ezq

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

var (
	// ErrInterrupted is the cause with which a handler's context ends once its
	// router does not wait for it any longer. [Router.Run] returns it if
	// [InterruptEvent] was the reason.
	ErrInterrupted = backend.ErrInterrupted

	// ErrLeaseLost is the cause with which a handler's context ends when another
	// consumer may receive its event. What the handler returns then changes
	// nothing.
	ErrLeaseLost = backend.ErrLeaseLost

	// ErrDrainTimeout is returned by [Router.Run] when handlers were still busy
	// after Config.DrainTimeout and had to be interrupted.
	ErrDrainTimeout = errors.New("ezq: handlers did not finish in time")
)

// SubscriptionError is returned by [Router.Run] when a topic cannot be
// subscribed to, or stops delivering although nobody asked it to.
type SubscriptionError struct {
	Topic string

	// Err is why. It is nil if the subscription ended by itself.
	Err error
}

func (e *SubscriptionError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("ezq: the subscription to %q ended by itself: was the queue closed?", e.Topic)
	}
	return fmt.Sprintf("ezq: subscribe to %q: %v", e.Topic, e.Err)
}

// Unwrap returns e.Err.
func (e *SubscriptionError) Unwrap() error { return e.Err }

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
	return fmt.Sprintf("ezq: decode %s: %s", e.Event, withoutQuotes(e.Err))
}

// MarshalText returns what Error does.
func (e *DecodeError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns e.Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// defect is what is wrong with a payload, in words that are not from there.
type defect string

func (d defect) Error() string { return string(d) }

// withoutQuotes returns what err says, if that is known not to quote a payload.
func withoutQuotes(err error) string {
	if known, ok := errors.AsType[defect](err); ok {
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

// UnknownEventError is an event that no handler of its topic has taken for as long as
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
