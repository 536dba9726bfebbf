package ezq

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Config adjusts a [Router]. The zero value is ready for production.
type Config struct {
	// Concurrency is how many events of one topic are handled at a time. With 1
	// they are handled in the order in which the backend delivers them. Defaults
	// to 10. The option [Concurrency] limits a single handler.
	Concurrency int

	// Topics adjusts single topics, by their names. It may only name topics that
	// the router has handlers on.
	Topics map[string]TopicConfig

	// DrainTimeout is how long handlers may go on after the router was told to
	// stop, before it interrupts them. Defaults to 10 seconds.
	DrainTimeout time.Duration

	// IgnoreControl makes EndEvent and InterruptEvent ordinary events, so that
	// whoever may publish may not also stop the router.
	IgnoreControl bool

	// IgnoreUnknown acknowledges events that no handler takes, before any
	// middleware sees them. Otherwise they fail with [UnknownEventError], and stay
	// in the queue for a program that knows them, unless a middleware makes dead
	// letters of them.
	IgnoreUnknown bool

	// Logger receives what the router has to report. Defaults to [slog.Default].
	Logger *slog.Logger
}

// TopicConfig adjusts how a [Router] treats one topic. What is zero is as in its
// [Config].
type TopicConfig struct {
	// Concurrency is how many events of the topic are handled at a time.
	Concurrency int
}

// Router delivers events to typed handlers. Create it with [NewRouter], attach
// handlers with [Handle], then [Router.Run] it, once.
type Router struct {
	subscriber message.Subscriber
	features   backend.Features
	config     Config
	middleware []message.HandlerMiddleware
	topics     map[string]*topic
	started    atomic.Bool
	running    atomic.Pointer[run] // the only one
}

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
	for name, topic := range config.Topics {
		if topic.Concurrency < 0 {
			panic(fmt.Sprintf("ezq: NewRouter: Config.Topics[%q] has a negative value", name))
		}
	}
	config.Topics = maps.Clone(config.Topics)
	config.Concurrency = cmp.Or(config.Concurrency, 10)
	config.DrainTimeout = cmp.Or(config.DrainTimeout, 10*time.Second)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	return &Router{
		subscriber: subscriber,
		features:   backend.FeaturesOf(subscriber),
		config:     config,
		topics:     map[string]*topic{},
	}
}

// Use wraps every handler in middleware, each on its own, also where one event has
// several. It may be any of Watermill's; the first one is the outermost. Unknown
// events pass through it too, unless Config.IgnoreUnknown is set. Use panics if the router has
// been started.
func (r *Router) Use(middleware ...message.HandlerMiddleware) {
	r.mustNotRun("Use")
	r.middleware = append(r.middleware, middleware...)
}

func (r *Router) add(rt *route) {
	r.mustNotRun("Handle")
	if rt.topic == "" {
		panic("ezq: Handle: the topic is empty")
	}
	tp := r.topics[rt.topic]
	if tp == nil {
		tp = &topic{name: rt.topic, events: map[string][]*route{}, pause: newPause()}
	}
	tp.add(rt)
	r.topics[rt.topic] = tp
}

// concurrency is how many events of a topic are handled at a time.
func (r *Router) concurrency(topic string) int {
	return cmp.Or(r.config.Topics[topic].Concurrency, r.config.Concurrency)
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
	for name := range r.config.Topics {
		if r.topics[name] == nil {
			return fmt.Errorf("ezq: Config.Topics has %q, a topic without handlers: is the name right?", name)
		}
	}
	if r.started.Swap(true) {
		return errStarted
	}
	for name, tp := range r.topics {
		tp.build(r.concurrency(name), r.middleware)
	}
	return nil
}
