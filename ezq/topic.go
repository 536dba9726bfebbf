package ezq

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// topic has the handlers of one topic, and what a router keeps for it.
type topic struct {
	name   string
	events map[string][]*route // by the names of the events
	pause  *pause
	counts counts

	// The fields below are made when the router starts.
	defaultRoutes   []*route        // of messages that name no event
	unhandled       *route          // fails the events that have no handler
	unhandledRoutes []*route        // just that one
	ignored         map[string]bool // the events that Router.Ignore names
	dropExpired     bool
	slots           *slots
	demand          int  // how many events the handlers want at a time
	singleHandler   bool // there is one handler, control events aside
	keys            keyedLock
	attachedKeys    keyedLock // of events that have passed through the middleware of a Watermill router

	unknownEvents    unknownEvents
	permanentRetried sync.Once // for the log: permanent errors do not dead-letter here

	subscribed atomic.Bool
	health     atomic.Pointer[subscriptionHealth] // of the last subscription
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

// routesOf returns the handlers of the event in msg, and the name that the message
// gives it. One whose payload names no event may do so in its metadata, if there
// is a handler for that; otherwise it is for the topic's only event. Text that cannot
// be the name of an event is none, and for no handler.
func (tp *topic) routesOf(msg *message.Message) (routes []*route, event string) {
	name, ok := peek(msg.Payload)
	if !ok {
		if named := msg.Metadata[nameHeader]; tp.events[named] != nil && !isControl(named) {
			return tp.events[named], named
		}
		return tp.defaultRoutes, ""
	}
	routes = tp.events[string(name)]
	if len(routes) > 0 {
		for _, known := range routes[0].events {
			if known == string(name) {
				return routes, known // which costs no allocation
			}
		}
	}
	if len(routes) == 0 && (len(name) > backend.MaxName || validateName(string(name)) != nil) {
		return tp.unhandledRoutes, "" // no program can have a handler for it
	}
	return routes, string(name)
}

// build makes what handles the topic's events, each handler within middleware.
func (tp *topic) build(concurrency int, middleware []message.HandlerMiddleware, ignored map[string]bool) {
	tp.ignored = ignored
	tp.defaultRoutes = tp.routesOfOnlyEvent()
	for _, rt := range tp.allRoutes() {
		rt.build(middleware)
	}
	tp.makeSlots(concurrency)
	tp.unhandled = &route{topic: tp.name, call: func(msg *message.Message) ([]*message.Message, error) {
		return nil, Permanent(&UnknownEventError{Topic: tp.name, Event: MetaFromContext(msg.Context()).Event})
	}}
	tp.unhandled.build(middleware)
	tp.unhandledRoutes = []*route{tp.unhandled}
}

// makeSlots makes as many slots as events may be handled at a time, or as the limits of
// all handlers come to. More events could only wait here, and another process may be
// idle.
func (tp *topic) makeSlots(concurrency int) {
	handlers, limits, size := 0, 0, 0
	for _, rt := range tp.allRoutes() {
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
	tp.singleHandler = handlers == 1
	tp.demand = max(concurrency, size)
	tp.slots = newSlots(concurrency, tp.demand)
}

// routesOfOnlyEvent returns the handlers of the topic's only event, control events
// aside, or none if there are more events or none.
func (tp *topic) routesOfOnlyEvent() (only []*route) {
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

// allRoutes returns each handler once.
func (tp *topic) allRoutes() (handlers []*route) {
	for _, routes := range tp.events {
		for _, rt := range routes {
			if !slices.Contains(handlers, rt) {
				handlers = append(handlers, rt)
			}
		}
	}
	return handlers
}

func (tp *topic) stats() TopicStats {
	// Events are claimed before they have an outcome, so the claims are read
	// last.
	s := TopicStats{
		Succeeded:    tp.counts.outcomes[succeeded].Load(),
		Failed:       tp.counts.outcomes[failed].Load(),
		DeadLettered: tp.counts.outcomes[deadLettered].Load(),
		Released:     tp.counts.outcomes[released].Load(),
		Unknown:      tp.counts.outcomes[unknown].Load(),
		Ignored:      tp.counts.outcomes[ignored].Load(),
		Dropped:      tp.counts.outcomes[dropped].Load(),
		Cancelled:    tp.counts.outcomes[cancelled].Load(),
	}
	s.Claimed = tp.counts.claimed.Load()
	s.InFlight = s.Claimed - s.Succeeded - s.Failed - s.DeadLettered - s.Released - s.Unknown - s.Ignored - s.Dropped - s.Cancelled
	if at := tp.counts.lastFailure.Load(); at != 0 {
		s.LastFailure = time.Unix(0, at)
	}
	s.Paused, _ = tp.pause.state()
	return s
}

// counts are the numbers of a TopicStats.
type counts struct {
	claimed     atomic.Int64
	outcomes    [cancelled + 1]atomic.Int64
	lastFailure atomic.Int64 // in nanoseconds since 1970; 0: never
}

func (c *counts) add(o outcome) {
	c.outcomes[o].Add(1)
	if o == failed {
		c.lastFailure.Store(time.Now().UnixNano())
	}
}
