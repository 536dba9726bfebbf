package ezq

import (
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
	rt.handle = chain(middleware, chain(rt.middleware, releaseInterrupted(rt.call)))
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
