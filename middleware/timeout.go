package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Timeout ends the context of a message when its handler takes too long. An error
// that the handler then returns names the limit and matches
// [context.DeadlineExceeded], and is a failure like any other. A handler that does
// not look at its context is not stopped, and one that succeeds nevertheless has
// succeeded.
//
// The context that the message had is put back afterwards: the next attempt of a
// [Retry] further out has all the time again.
type Timeout struct {
	// After is how long a handler may take. Defaults to 1 minute.
	After time.Duration
}

// Middleware implements [message.HandlerMiddleware]. It panics if After is
// negative.
func (p Timeout) Middleware(next message.HandlerFunc) message.HandlerFunc {
	mustNotBeNegative("Timeout.After", p.After)
	limit := &timeoutError{cmp.Or(p.After, time.Minute)}
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		limited, cancel := context.WithTimeoutCause(ctx, limit.after, limit)
		defer cancel()
		defer msg.SetContext(ctx)
		msg.SetContext(limited)

		out, err := next(msg)
		if err != nil && errors.Is(context.Cause(limited), limit) && !errors.Is(err, limit) {
			err = fmt.Errorf("%w: %w", limit, err)
		}
		return out, err
	}
}

// timeoutError is the cause with which a context ends after a Timeout.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("middleware: the handler took longer than %v", e.after)
}

func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }
