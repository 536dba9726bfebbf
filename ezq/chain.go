package ezq

import (
	"errors"
	"runtime/debug"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"
)

var (
	errProduced = errors.New("ezq: a middleware returned messages, and nothing publishes them: call Publish instead")
	errGoexit   = errors.New("ezq: the handler ended its goroutine instead of returning")
)

// chain wraps h in middleware, the first outermost.
func chain(middleware []message.HandlerMiddleware, h message.HandlerFunc) message.HandlerFunc {
	for _, wrap := range slices.Backward(middleware) {
		h = wrap(h)
	}
	return h
}

// releaseInterrupted releases the event of a handler that was interrupted. It is the
// innermost link, so that no middleware, ours or Watermill's, takes a shutdown for a
// failure.
func releaseInterrupted(call message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		if inv := invocationFrom(ctx); inv != nil && inv.exited {
			return nil, errGoexit
		}
		out, err := callSafely(call, msg)
		if err != nil && interrupted(ctx) {
			release(msg) // the first of ack and nack counts
			return nil, nil
		}
		return out, err
	}
}

// callSafely calls h and turns a panic into an error.
func callSafely(h message.HandlerFunc, msg *message.Message) (out []*message.Message, err error) {
	defer recoverError(&err)
	return h(msg)
}

// recoverError is to be deferred: it makes the error of a panic.
func recoverError(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// rejectProduced makes an error of messages that a middleware wants to be published.
func rejectProduced(out []*message.Message, err error) error {
	if err == nil && len(out) > 0 {
		return errProduced
	}
	return err
}
