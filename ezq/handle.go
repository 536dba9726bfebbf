package ezq

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Handle makes fn the handler of events of type E.
//
// fn is called concurrently, as far as Config.Concurrency allows. Its context
// carries [Meta], stays alive while the router drains, and ends with the cause
// [ErrInterrupted] or [ErrLeaseLost]. What fn returns decides what becomes of
// the event: see [Permanent].
//
// A handler of [EndEvent] or [InterruptEvent] observes it: fn is called as the
// router stops, and what it returns is only logged.
//
// Handle panics if E cannot have a name, if r already has a handler for E on the
// same topic, or if r has been started: all three are mistakes in the program,
// not conditions to recover from.
func Handle[E any](r *Router, fn func(ctx context.Context, event E) error, opts ...HandleOption) {
	name := NameOf[E]()
	rt := &route{events: []string{name}, topic: DefaultTopic}
	rt.call = func(msg *message.Message) ([]*message.Message, error) {
		event, err := decode[E](name, msg.Payload)
		if err != nil {
			return nil, Permanent(err)
		}
		return nil, fn(msg.Context(), event)
	}
	for _, opt := range opts {
		opt.applyToHandle(rt)
	}
	r.add(rt)
}

// With wraps one handler in middleware of its own, inside the router's. The
// first middleware is the outermost. Any Watermill middleware will do.
func With(middleware ...message.HandlerMiddleware) HandleOption {
	return handleOption(func(rt *route) { rt.middleware = append(rt.middleware, middleware...) })
}

// Alias makes a handler take events under former names too. Rename an event
// type by giving its handlers the old name as an alias, and remove that when
// no event of the old name is left in any queue.
func Alias(names ...string) HandleOption {
	return handleOption(func(rt *route) { rt.events = append(rt.events, names...) })
}

type handleOption func(*route)

func (f handleOption) applyToHandle(rt *route) { f(rt) }

// route is a handler with its event type erased.
type route struct {
	events     []string // the names it goes by; the first is its own
	topic      string
	call       message.HandlerFunc
	middleware []message.HandlerMiddleware
}
