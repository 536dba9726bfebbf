package ezq

import (
	"cmp"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Router delivers events to typed handlers. Create it with [NewRouter], attach
// handlers with [Handle], then [Router.Run] it, once. Until it runs it is for one
// goroutine; from then on its methods may be called by several.
type Router struct {
	subscriber message.Subscriber
	features   backend.Features
	config     Config
	middleware []message.HandlerMiddleware
	topics     map[string]*topic
	ignored    map[string]map[string]bool // events, by topic
	started    atomic.Bool
	running    atomic.Pointer[run] // the only one
}

// NewRouter returns a router that takes its events from subscriber, which is a
// backend or any other Watermill Subscriber. The router does not close it.
// NewRouter panics if subscriber is nil, or a number or a duration in config is out
// of range. A nil config is that of the defaults.
func NewRouter(subscriber message.Subscriber, config *Config) *Router {
	if subscriber == nil {
		panic("ezq: NewRouter: the subscriber is nil: pass a backend, or any Watermill Subscriber")
	}
	if config == nil {
		config = &Config{}
	}
	if flaw := config.flaw(); flaw != "" {
		panic("ezq: NewRouter: " + flaw)
	}
	return &Router{
		subscriber: subscriber,
		features:   backend.FeaturesOf(subscriber),
		config:     config.withDefaults(),
		topics:     map[string]*topic{},
		ignored:    map[string]map[string]bool{},
	}
}

// Use wraps every handler in middleware, each on its own, also where one event has
// several. It may be any of Watermill's; the first one is the outermost. Unknown
// events pass through it too, once Config.UnknownFor has passed. Use panics if one of
// them is nil, or the router has been started.
func (r *Router) Use(middleware ...message.HandlerMiddleware) {
	r.mustNotRun("Use")
	mustBeThere("Use", middleware)
	r.middleware = append(r.middleware, middleware...)
}

// add attaches rt on behalf of method.
func (r *Router) add(method string, rt *route) {
	r.mustNotRun(method)
	if rt.topic == "" {
		panic(fmt.Sprintf("ezq: %s: the topic is empty: name one, or leave Topic out for %q", method, DefaultTopic))
	}
	tp := r.topics[rt.topic]
	if tp == nil {
		tp = &topic{name: rt.topic, events: map[string][]*route{}, pause: newPause()}
	}
	tp.add(method, rt)
	r.topics[rt.topic] = tp
}

// concurrency is how many events of a topic are handled at a time.
func (r *Router) concurrency(topic string) int {
	return cmp.Or(r.config.Topics[topic].Concurrency, r.config.Concurrency)
}

func (r *Router) mustNotRun(method string) {
	if r.started.Load() {
		panic("ezq: " + method + ": the router has been started: call " + method + " before Run, or make a new router")
	}
}

func mustBeThere(method string, middleware []message.HandlerMiddleware) {
	for i, m := range middleware {
		if m == nil {
			panic(fmt.Sprintf("ezq: %s: middleware %d of %d is nil: leave it out", method, i+1, len(middleware)))
		}
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
	for name := range r.config.Topics {
		if r.topics[name] == nil {
			return fmt.Errorf("ezq: Config.Topics has %q, a topic without handlers: is the name right?", name)
		}
	}
	if err := r.ignoreFlaw(); err != nil {
		return err
	}
	if r.started.Swap(true) {
		return errStarted
	}
	for name, tp := range r.topics {
		tp.build(r.concurrency(name), r.middleware)
	}
	return nil
}
