package ezq

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Handle makes fn the handler of events of type E.
//
// fn is called concurrently, as far as Config.Concurrency allows. Its context
// carries [Meta], stays alive while the router drains, and ends with the cause
// [ErrInterrupted], [ErrLeaseLost] or [ErrCancelled]. What fn returns decides what becomes of
// the event: see Delivery, in the overview of this package.
//
// A handler of [EndEvent] or [InterruptEvent] observes it: fn is called as the
// router stops, and its error is only logged.
//
// One event may have several handlers, if each has a [Name] of its own. They run
// concurrently, and each succeeds or fails on its own. The event is done when all
// of them have succeeded. If one fails, the event comes back, and only those run
// again that have not succeeded; on a backend that does not promise Progress, all
// do.
//
// Handle panics if E cannot have a name, if r has another handler for E on the
// same topic and not both have names, if fn is nil, or if r has been started: all
// are mistakes in the program, not conditions to recover from.
func Handle[E any](r *Router, fn func(ctx context.Context, event E) error, opts ...HandleOption) {
	name := EventName[E]()
	if fn == nil {
		panic("ezq: Handle: the handler of " + name + " is nil: pass a function")
	}
	rt := newRoute(name)
	for _, option := range opts {
		option.applyToHandle(rt)
	}
	rt.call = func(msg *message.Message) ([]*message.Message, error) {
		event, err := decode[E](name, msg.Payload)
		if err != nil {
			return nil, Permanent(err)
		}
		return nil, fn(msg.Context(), event)
	}
	r.add("Handle", rt)
}

func newRoute(event string) *route {
	return &route{events: []string{event}, topic: DefaultTopic}
}

// Use wraps one handler in middleware of its own, inside the router's. The
// first middleware is the outermost. Any Watermill middleware works. Use calls each, as
// [Router.Use] does, and panics where that does.
func Use(middleware ...message.HandlerMiddleware) HandleOption {
	mustWrap("Use", middleware)
	return handleOption(func(rt *route) { rt.middleware = append(rt.middleware, middleware...) })
}

// Name names a handler: in [Meta], in the log, and in the queue, where a failed
// event carries the names of the handlers that have succeeded. So a name must not
// change while events are queued. A handler without a name has that of its event, and is
// the only handler that its event may have. Name panics if the name could not be that of
// an event.
func Name(name string) HandleOption {
	if err := validateName(name); err != nil {
		panic(fmt.Sprintf("ezq: Name: %q %v: use another name", name, err))
	}
	return handleOption(func(rt *route) { rt.name = name })
}

// Concurrency limits a handler to n events, or batches, at a time in its router, below
// Config.Concurrency, which limits all handlers of the topic together. Events that
// wait for such a handler take up none of that: others go on, as long as not more
// than ten times Config.Concurrency wait, or ten times a batch if that is more.
//
// If all handlers of a topic have limits, the router fetches no more of it at a time than
// those come to, and if the only one handles batches, one full batch waits at most: the
// rest is for other processes. If one handler has no limit, the router also fetches what
// has to wait for the others, on the way to what that one could begin with; so give a
// slow handler a topic of its own if several processes are to share its events.
//
// Concurrency panics if n is not positive.
func Concurrency(n int) HandleOption {
	if n <= 0 {
		panic(fmt.Sprintf("ezq: Concurrency: %d is not positive: leave it out if the handler needs no limit of its own", n))
	}
	return handleOption(func(rt *route) { rt.limit = make(chan struct{}, n) })
}

// Alias makes a handler take events under former names too. Rename an event
// type by giving its handlers the old name as an alias, and remove that when
// no event of the old name is left in any queue. Alias panics if a name cannot be
// that of an event.
func Alias(names ...string) HandleOption {
	for _, name := range names {
		if err := validateName(name); err != nil {
			panic(fmt.Sprintf("ezq: Alias: %q %v: use the name that the events had", name, err))
		}
		if isControl(name) {
			panic(fmt.Sprintf("ezq: Alias: %q stops routers: write a handler of that event", name))
		}
	}
	return handleOption(func(rt *route) { rt.events = append(rt.events, names...) })
}

type handleOption func(*route)

func (f handleOption) applyToHandle(rt *route) { f(rt) }

func (f handleOption) applyToBatch(rt *route) { f(rt) }
