package ezq

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// topic is the handlers of one topic.
type topic struct {
	name   string
	events map[string][]*route // by the names of the events
	pause  *pause
	counts counts

	// What follows is made when the router starts.
	unnamed []*route // of messages that name no event
	unknown *route   // of events that nobody handles
	nobody  []*route // just that one
	slots   *slots
	demand  int  // how many events the handlers want at a time
	sole    bool // there is one handler, control events aside
	keys    keys
	inside  keys // of what has passed through the middleware of a Watermill router

	strangers strangers
	unfinal   sync.Once // what is permanent cannot be final, and that was logged

	subscribed atomic.Bool
	reception  atomic.Pointer[reception] // of the last subscription
}

// add attaches rt, or panics if it and another handler of the same event could
// not be told apart.
func (tp *topic) add(method string, rt *route) {
	for _, event := range rt.events {
		for _, other := range tp.events[event] {
			mustDiffer(method, rt, other, event)
		}
	}
	for _, event := range rt.events {
		if !slices.Contains(tp.events[event], rt) {
			tp.events[event] = append(tp.events[event], rt)
		}
	}
}

func mustDiffer(method string, rt, other *route, event string) {
	const remedy = "give each handler a name of its own with Name, and keep the names"
	if rt.name == "" || other.name == "" {
		panic(fmt.Sprintf("ezq: %s: event %q on topic %q has several handlers, and one is without a name: %s", method, event, rt.topic, remedy))
	}
	if rt.name == other.name {
		panic(fmt.Sprintf("ezq: %s: event %q on topic %q has two handlers named %q: %s", method, event, rt.topic, rt.name, remedy))
	}
}

// nameHeader is where Watermill's cqrs package puts the name of an event.
const nameHeader = "name"

// find returns the handlers of the event in msg, and the name that the message
// gives it. One whose payload names no event may do so in its metadata, if there
// is a handler for that; otherwise it is for the topic's only event. What cannot be the
// name of an event is none, and for no handler.
func (tp *topic) find(msg *message.Message) (routes []*route, event string) {
	name, ok := peek(msg.Payload)
	if !ok {
		if named := msg.Metadata[nameHeader]; tp.events[named] != nil && !isControl(named) {
			return tp.events[named], named
		}
		return tp.unnamed, ""
	}
	routes = tp.events[string(name)]
	if len(routes) > 0 {
		for _, known := range routes[0].events {
			if known == string(name) {
				return routes, known // which costs no allocation
			}
		}
	}
	if len(routes) == 0 && (len(name) > backend.MaxName || nameFlaw(string(name)) != "") {
		return tp.nobody, "" // no program can have a handler for it
	}
	return routes, string(name)
}

// build makes what handles the topic's events, each handler within middleware.
func (tp *topic) build(concurrency int, middleware []message.HandlerMiddleware) {
	tp.unnamed = tp.onlyEvent()
	for _, rt := range tp.all() {
		rt.build(middleware)
	}
	tp.allot(concurrency)
	tp.unknown = &route{topic: tp.name, call: func(msg *message.Message) ([]*message.Message, error) {
		return nil, Permanent(&UnknownEventError{Topic: tp.name, Event: MetaFromContext(msg.Context()).Event})
	}}
	tp.unknown.build(middleware)
	tp.nobody = []*route{tp.unknown}
}

// allot makes the slots: as many as may be handled at a time, or as many as the limits
// of all handlers come to. What is taken beyond those could only wait here, and another
// process may be idle.
func (tp *topic) allot(concurrency int) {
	handlers, limits, size := 0, 0, 0
	for _, rt := range tp.all() {
		if isControl(rt.events[0]) {
			continue
		}
		handlers++
		size = max(size, rt.size)
		if rt.limit == nil {
			limits = concurrency
		}
		limits += cap(rt.limit) * max(rt.size, 1)
	}
	if limits > 0 {
		concurrency = min(concurrency, limits)
	}
	tp.sole = handlers == 1
	tp.demand = max(concurrency, size)
	tp.slots = newSlots(concurrency, tp.demand)
}

// onlyEvent returns the handlers of the topic's only event, control events
// aside, or none if there are more events or none.
func (tp *topic) onlyEvent() (only []*route) {
	for name, routes := range tp.events {
		if isControl(name) {
			continue
		}
		if only != nil && !slices.Equal(only, routes) {
			return nil
		}
		only = routes
	}
	return only
}

// all returns each handler once.
func (tp *topic) all() (handlers []*route) {
	for _, routes := range tp.events {
		for _, rt := range routes {
			if !slices.Contains(handlers, rt) {
				handlers = append(handlers, rt)
			}
		}
	}
	return handlers
}

func isControl(event string) bool {
	return event == EndEvent{}.EventName() || event == InterruptEvent{}.EventName()
}
