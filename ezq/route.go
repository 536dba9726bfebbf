package ezq

import (
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// route is a handler with its event type erased.
type route struct {
	events     []string // the names it goes by; the first is its own
	topic      string
	name       string // or ""
	call       message.HandlerFunc
	middleware []message.HandlerMiddleware
	limit      chan struct{} // holds a token for each event being handled; nil: no limit

	size    int // of a batch; 0: it does not handle batches
	linger  time.Duration
	lingers bool // linger is set

	handle message.HandlerFunc // call within all middleware; see build
}

// build makes what handles an event, from the outside in: the router's
// middleware, the handler's own, the function.
func (rt *route) build(middleware []message.HandlerMiddleware) {
	rt.handle = chain(middleware, chain(rt.middleware, innermost(rt.call)))
}

// label is the handler's name, or else that of its event.
func (rt *route) label() string {
	if rt.name == "" && len(rt.events) > 0 {
		return rt.events[0]
	}
	return rt.name
}

// freeLimit returns the token that an invocation has acquired.
func (rt *route) freeLimit() {
	if rt.limit != nil {
		<-rt.limit
	}
}

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

// innermost is the innermost link of the middleware, which calls the handler, unless its event has expired. It
// releases the event of a handler that was interrupted, so that no middleware, ours or Watermill's, takes a
// shutdown for a failure.
func innermost(call message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		if inv := invocationFrom(ctx); inv != nil && inv.exited {
			return nil, errGoexit
		}
		if err := expired(msg.Metadata); err != nil {
			return nil, invocationFrom(ctx).expire(err)
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
