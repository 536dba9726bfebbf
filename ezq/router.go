package ezq

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Config adjusts a [Router]. The zero value is ready for production.
type Config struct {
	// Concurrency is how many events of one topic are handled at a time. With 1
	// they are handled in the order in which the backend delivers them. Defaults
	// to 10.
	Concurrency int

	// DrainTimeout is how long handlers may go on after the router was told to
	// stop, before it interrupts them. Defaults to 10 seconds.
	DrainTimeout time.Duration

	// IgnoreControl makes EndEvent and InterruptEvent ordinary events, so that
	// whoever may publish may not also stop the router.
	IgnoreControl bool

	// IgnoreUnknown acknowledges events that no handler takes. Otherwise they
	// fail with [UnknownEventError], and stay in the queue for a program that
	// knows them.
	IgnoreUnknown bool

	// Logger receives what the router has to report. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Router delivers events to typed handlers. Create it with [NewRouter], attach
// handlers with [Handle], then [Router.Run] it, once.
type Router struct {
	subscriber message.Subscriber
	features   backend.Features
	config     Config
	middleware []message.HandlerMiddleware
	topics     map[string]routes
	started    atomic.Bool
}

// routes are the handlers of one topic, by the names of their events.
type routes map[string]*route

// NewRouter returns a router that takes its events from subscriber, which is a
// backend or any other Watermill Subscriber. The router does not close it.
// NewRouter panics if subscriber is nil, or a number or a duration in config is
// negative.
func NewRouter(subscriber message.Subscriber, config Config) *Router {
	if subscriber == nil {
		panic("ezq: NewRouter: the subscriber is nil")
	}
	if config.Concurrency < 0 || config.DrainTimeout < 0 {
		panic("ezq: NewRouter: Config has a negative value")
	}
	config.Concurrency = cmp.Or(config.Concurrency, 10)
	config.DrainTimeout = cmp.Or(config.DrainTimeout, 10*time.Second)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	return &Router{
		subscriber: subscriber,
		features:   backend.FeaturesOf(subscriber),
		config:     config,
		topics:     map[string]routes{},
	}
}

// Use wraps every handler in middleware, which may be any of Watermill's. The
// first one is the outermost. Use panics if the router has been started.
func (r *Router) Use(middleware ...message.HandlerMiddleware) {
	r.mustNotRun("Use")
	r.middleware = append(r.middleware, middleware...)
}

func (r *Router) add(rt *route) {
	r.mustNotRun("Handle")
	if rt.topic == "" {
		panic("ezq: Handle: the topic is empty")
	}
	if r.topics[rt.topic] == nil {
		r.topics[rt.topic] = routes{}
	}
	for _, event := range rt.events {
		if _, taken := r.topics[rt.topic][event]; taken {
			panic(fmt.Sprintf("ezq: Handle: event %q on topic %q already has a handler", event, rt.topic))
		}
	}
	for _, event := range rt.events {
		r.topics[rt.topic][event] = rt
	}
}

func (r *Router) mustNotRun(method string) {
	if r.started.Load() {
		panic("ezq: " + method + ": the router has been started")
	}
}

var (
	errStarted    = errors.New("ezq: the router has been started already: make a new one for each Run")
	errNoHandlers = errors.New("ezq: the router has no handlers: add one with Handle")
)

func (r *Router) start() error {
	if len(r.topics) == 0 {
		return errNoHandlers
	}
	if r.started.Swap(true) {
		return errStarted
	}
	return nil
}

// find returns the handler of an event, and the name that the event goes by. A
// message that names no event is for the topic's handler, if there is only one.
func (rs routes) find(wire []byte) (rt *route, event string) {
	name, ok := peek(wire)
	if ok {
		if rt := rs[string(name)]; rt != nil {
			return rt, rt.events[0]
		}
		return nil, string(name)
	}
	for name, candidate := range rs {
		if isControl(name) || candidate == rt {
			continue
		}
		if rt != nil {
			return nil, ""
		}
		rt = candidate
	}
	if rt == nil {
		return nil, ""
	}
	return rt, rt.events[0]
}

func isControl(event string) bool {
	return event == EndEvent{}.EventName() || event == InterruptEvent{}.EventName()
}
