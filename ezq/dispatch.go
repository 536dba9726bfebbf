package ezq

import (
	"errors"
	"runtime/debug"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"
)

// interruptible gives an interrupted handler's event back. It is the innermost
// link, so that no middleware, ours or Watermill's, takes a shutdown for a
// failure.
func interruptible(call message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		if h := handlingFrom(ctx); h != nil && h.exited {
			return nil, errGoexit
		}
		out, err := safely(call, msg)
		if err != nil && interrupted(ctx) {
			giveBack(msg) // the first of ack and nack counts
			return nil, nil
		}
		return out, err
	}
}

// safely calls h and turns a panic into an error.
func safely(h message.HandlerFunc, msg *message.Message) (out []*message.Message, err error) {
	defer caught(&err)
	return h(msg)
}

// caught is to be deferred: it makes the error of a panic.
func caught(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// chain wraps h in middleware, the first outermost.
func chain(middleware []message.HandlerMiddleware, h message.HandlerFunc) message.HandlerFunc {
	for _, wrap := range slices.Backward(middleware) {
		h = wrap(h)
	}
	return h
}

var (
	errProduced = errors.New("ezq: a middleware returned messages, and nothing publishes them: call Publish instead")
	errGoexit   = errors.New("ezq: the handler ended its goroutine instead of returning")
)
