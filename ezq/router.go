package ezq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
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
	invalid    error                      // of what NewRouter was given
	started    atomic.Bool
	unstarted  atomic.Pointer[error] // why the last start has failed
	running    atomic.Pointer[run]   // the only one
}

// NewRouter returns a router that fetches its events from subscriber, which is a
// backend or any other Watermill Subscriber. The router does not close it. A nil config
// is that of the defaults.
//
// NewRouter does not panic. If subscriber is nil, or a number or a duration in config is
// out of range, [Router.Run] returns an error that matches [ErrInvalidConfig], before it
// subscribes to anything; so do [Router.Attach] and [Router.Ready].
func NewRouter(subscriber message.Subscriber, config *Config) *Router {
	if config == nil {
		config = &Config{}
	}
	r := &Router{
		invalid:    validateRouter(subscriber, config),
		subscriber: subscriber,
		config:     config.withDefaults(),
		topics:     map[string]*topic{},
		ignored:    map[string]map[string]bool{},
	}
	if r.invalid == nil {
		r.features = backend.FeaturesOf(subscriber)
	}
	return r
}

// validateRouter takes a nil pointer for nil: it is what a constructor returns beside an error.
func validateRouter(subscriber message.Subscriber, config *Config) error {
	if v := reflect.ValueOf(subscriber); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return &configError{text: "NewRouter: the subscriber is nil: pass a backend, or any Watermill Subscriber"}
	}
	if err := config.validate(); err != nil {
		return &configError{text: "NewRouter: " + err.Error()}
	}
	return nil
}

// Use wraps every handler in middleware, each on its own, also where one event has
// several. It may be any of Watermill's; the first one is the outermost. Unknown
// events pass through it too, once Config.UnknownFor has passed.
//
// A middleware may be called more than once, and each call makes a handler of its own: Use
// calls it with one that does nothing, so that a mistake in it shows here, and the router
// calls it for each handler when it starts. A middleware must therefore begin nothing when
// it is called that has to be ended, such as a goroutine, or that can be begun only once.
//
// Use panics if a middleware is nil, panics when it is called, or returns nil, or if the
// router has been started.
func (r *Router) Use(middleware ...message.HandlerMiddleware) {
	r.mustNotBeStarted("Use")
	mustWrap("Use", middleware)
	r.middleware = append(r.middleware, middleware...)
}

// add attaches rt on behalf of method.
func (r *Router) add(method string, rt *route) {
	r.mustNotBeStarted(method)
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

func (r *Router) mustNotBeStarted(method string) {
	if r.started.Load() {
		panic("ezq: " + method + ": the router has been started: call " + method + " before Run, or make a new router")
	}
}

// mustWrap panics if a middleware does, or if it makes no handler of one.
func mustWrap(method string, middleware []message.HandlerMiddleware) {
	for i, wrap := range middleware {
		if wrap == nil {
			panic(fmt.Sprintf("ezq: %s: middleware %d of %d is nil: leave it out", method, i+1, len(middleware)))
		}
		if wrap(doNothing) == nil {
			panic(fmt.Sprintf("ezq: %s: middleware %d of %d returns a nil handler: have it return the one that it was given", method, i+1, len(middleware)))
		}
	}
}

func doNothing(*message.Message) ([]*message.Message, error) { return nil, nil }

var (
	errStarted    = errors.New("ezq: the router has been started already: make a new one for each Run")
	errNoHandlers = errors.New("ezq: the router has no handlers: add one with Handle")
)

// start begins the only run, or keeps the reason for Ready why it cannot. A router whose middleware has panicked
// here is used up: its handlers are half built.
func (r *Router) start() error {
	if r.started.Load() {
		return cmp.Or(r.startFailure(), errStarted)
	}
	err := r.tryStart()
	if err != nil {
		r.unstarted.Store(&err)
	}
	return err
}

func (r *Router) startFailure() error {
	if err := r.unstarted.Load(); err != nil {
		return *err
	}
	return nil
}

func (r *Router) tryStart() error {
	if r.invalid != nil {
		return r.invalid
	}
	if len(r.topics) == 0 {
		return errNoHandlers
	}
	for name := range r.config.Topics {
		if r.topics[name] == nil {
			return &configError{text: fmt.Sprintf("Config.Topics: topic %q has no handler: check the name", name)}
		}
	}
	if err := r.validateIgnored(); err != nil {
		return err
	}
	if r.started.Swap(true) {
		return errStarted
	}
	return r.buildTopics()
}

// buildTopics makes what handles the events of each topic. A middleware that panics now has
// not done so when it was given to Use.
func (r *Router) buildTopics() (err error) {
	defer func() {
		if v := recover(); v != nil {
			text := fmt.Sprintf("a middleware panicked when it was called again: %v: it is called by Use and for each handler, so let it begin nothing that can be begun only once", v)
			err = &configError{text: text, cause: &PanicError{Value: v, Stack: debug.Stack()}}
		}
	}()
	for name, tp := range r.topics {
		tp.dropExpired = r.config.Topics[name].DropExpired
		tp.build(r.concurrency(name), r.middleware, r.ignored[name])
	}
	return nil
}

// newRun makes the only run of r.
func (r *Router) newRun(ctx context.Context) *run {
	r.unstarted.Store(nil)
	rn := newRun(ctx, r.subscriber, r.features, r.config)
	r.running.Store(rn)
	return rn
}

// Run delivers events until ctx ends or an [EndEvent] arrives.
//
// It then fetches no more events. Those that the backend has fetched, and those that
// wait for their turn, are released at once, as if they had not been delivered; after
// an [EndEvent] those that wait are handled, since they came before it. Handlers that
// run may go on, with living contexts, for Config.DrainTimeout, or EndEvent.Timeout if
// that is set; a handler that takes long can look at [StoppingFromContext]. When they
// are done and the outcomes are stored, Run returns nil: that ctx ended is no error.
//
// If they take longer, their contexts end with the cause [ErrInterrupted]. A handler's
// result then still counts: nil is done; an error releases the event, and is not
// counted as a failure. Run returns a [StopError], which matches [ErrDrainTimeout],
// after all have returned, or after 5 more seconds; it names the handlers that still
// run. Their events come back when their leases run out.
//
// An [InterruptEvent] does the same without waiting, and the error matches
// [ErrInterrupted].
//
// If a topic cannot be subscribed to, or stops delivering, Run stops in the same
// way and returns a [SubscriptionError].
//
// Run does not close the subscriber. It returns an error at once if the router has been
// started before, has no handlers, or was given what it cannot use: see [ErrInvalidConfig].
func (r *Router) Run(ctx context.Context) error {
	if err := r.start(); err != nil {
		return err
	}
	rn := r.newRun(ctx)
	for _, tp := range r.topics {
		tr := &topicRun{run: rn, topic: tp, handle: (*delivery).handle}
		rn.consumers.Go(tr.serve)
	}
	rn.consumers.Wait()
	return rn.finish()
}

// Attach hands the router's topics to w, a Watermill router that runs or is yet to
// be run, instead of [Router.Run]. Each topic becomes a handler of w named
// "ezq " and the topic. Events are fetched as with Run: limits, keys, batches, control
// events, Pause, [Permanent] and the like, Meta, middleware of [Router.Use]. Then, when
// it is the turn of its key, each of them passes through the middleware of w before its
// handlers are called; so that may let as few messages through at a time as it likes.
//
// Middleware of w sees each message, but no failures: the event has been settled when
// the handler returns. So w's own Retry and PoisonQueue do nothing here. The payload, the
// metadata and the context that it leaves with a message, or with a copy of that, are
// those that the handlers get; which event it is, and its key, have been read before. A
// middleware that keeps a message from the handlers decides about it: one that returns
// nil has it acked, and an error is a failure. One that acks a message first, such as
// Watermill's InstantAck, makes its event one that cannot fail. An event whose message
// has lost the values of its context fails: a middleware copies a message with
// CopyWithContext.
//
// When w closes, this router stops like one whose context has ended: events that have not
// reached its handlers are released, and handlers may go on for Config.DrainTimeout, of
// which w itself waits for its CloseTimeout. A control event stops this router and no
// other handlers; when w has none left, it closes by itself. The subscriber is not
// closed.
//
// Attach returns an error where Run would before it begins, if w has handlers of
// those names already, and if w runs and a topic cannot be subscribed to.
func (r *Router) Attach(w *message.Router) error {
	if w == nil {
		return errors.New("ezq: Attach: the Watermill router is nil")
	}
	for name := range w.Handlers() {
		for topic := range r.topics {
			if name == attachedHandlerName(topic) {
				return fmt.Errorf("ezq: Attach: the Watermill router has a handler named %q already", name)
			}
		}
	}
	if err := r.start(); err != nil {
		return err
	}
	rn := r.newRun(context.Background())
	for _, tp := range r.topics {
		a := newAttachedTopic(rn, tp)
		w.AddConsumerHandler(attachedHandlerName(tp.name), tp.name, a, a.receive)
	}
	if !w.IsRunning() {
		return nil
	}
	if err := w.RunHandlers(context.Background()); err != nil {
		rn.fail(err)
		return fmt.Errorf("ezq: Attach: %w", err)
	}
	return nil
}

// Ignore has the router ack the named events of a topic, which have no handler:
// a consumer of a topic that others publish to names what it has no use for. Middleware
// does not see them; TopicStats.Ignored counts them. It may be called several times.
//
//	router.Ignore("orders", "OrderPaid", "OrderShipped")
//
// Ignore panics if the router has been started, if no event is named, or if a name
// cannot be that of an event. A topic without handlers, and an event that has one, are
// errors of [Router.Run].
func (r *Router) Ignore(topic string, events ...string) {
	r.mustNotBeStarted("Ignore")
	if len(events) == 0 {
		panic(fmt.Sprintf("ezq: Ignore: no event of topic %q is named: name those that are to be skipped", topic))
	}
	for _, event := range events {
		if err := validateName(event); err != nil {
			panic(fmt.Sprintf("ezq: Ignore: %q %v: use the name that the events have", event, err))
		}
		if r.ignored[topic] == nil {
			r.ignored[topic] = map[string]bool{}
		}
		r.ignored[topic][event] = true
	}
}

// validateIgnored returns an error if an event that [Router.Ignore] names is not unknown.
func (r *Router) validateIgnored() error {
	for topic, events := range r.ignored {
		tp := r.topics[topic]
		if tp == nil {
			return &configError{text: fmt.Sprintf("Ignore: topic %q has no handler: check the name", topic)}
		}
		for event := range events {
			if tp.events[event] != nil {
				return &configError{text: fmt.Sprintf("Ignore has event %q on topic %q, which has a handler: remove one of the two", event, topic)}
			}
		}
	}
	return nil
}

// Pause stops the fetching of a topic's events in this router, until [Router.Resume]. To stop
// the topic in all processes, use the Pause of the backend: see [backend.Pauser]. A topic that is
// paused in both ways needs both to be resumed.
//
// Events that are fetched or wait for their turn, also half a batch, are released as if not delivered;
// handlers that run go on. On a backend that does not promise Drain the subscription
// stays, and keeps the events it has fetched.
//
// A control event on a paused topic has to wait like any other. Pause may be called
// before Run too, and again. It returns an error if the router has no handlers on the
// topic.
func (r *Router) Pause(topic string) error { return r.setPaused("Pause", topic, true) }

// Resume ends a [Router.Pause]. It does nothing if the topic is not paused. If handlers
// that began before the pause still run, events come again 5 seconds after it at the
// earliest: released events have their places in the queue again by then, and the
// events of a key stay in order.
func (r *Router) Resume(topic string) error { return r.setPaused("Resume", topic, false) }

func (r *Router) setPaused(method, topic string, paused bool) error {
	tp := r.topics[topic]
	if tp == nil {
		return fmt.Errorf("ezq: %s: the router has no handlers on topic %q", method, topic)
	}
	tp.pause.set(paused)
	return nil
}

// Stats returns the figures of each topic, by its name. It is cheap, and may be called while the
// router runs, and after that.
func (r *Router) Stats() map[string]TopicStats {
	stats := make(map[string]TopicStats, len(r.topics))
	for name, tp := range r.topics {
		stats[name] = tp.stats()
	}
	return stats
}

// Ready returns nil while the router runs and receives the events of all topics
// that are not paused. Otherwise its error says what is wrong: the router has not
// been started, is not subscribed yet, is stopping, or has stopped; a
// [SubscriptionError] if that is why. If Run or Attach could not begin because of what
// the router was given, it is their error, until one of them begins. What NewRouter has found
// shows before that. Both match [ErrInvalidConfig]. It may be called at any time.
//
// When a topic's events cannot be fetched, for example because the database is down, the
// error wraps the reason, within 5 seconds, until they can be fetched again. Backends
// report that with [backend.Consumer].Health, those of this module do; a Watermill
// Pub/Sub that does not is taken to receive. A topic whose handlers are all busy is not
// fetched from, so an outage shows when one of them is done.
func (r *Router) Ready() error {
	rn := r.running.Load()
	switch {
	case r.invalid != nil:
		return r.invalid
	case rn == nil:
		return cmp.Or(r.startFailure(), errNotStarted)
	}
	if rn.life.fetching.Err() != nil {
		if lost, ok := errors.AsType[*SubscriptionError](rn.life.reason(0).err); ok {
			return lost
		}
		if rn.stopped.Load() {
			return errStopped
		}
		return errStopping
	}
	for name, tp := range r.topics {
		if paused, _ := tp.pause.state(); paused {
			continue
		}
		if !tp.subscribed.Load() {
			return fmt.Errorf("ezq: the router has not subscribed to %q yet", name)
		}
		if err := tp.health.Load().err(); err != nil {
			return fmt.Errorf("ezq: the router receives nothing from %q, and keeps trying: %w", name, err)
		}
	}
	return nil
}

var (
	errNotStarted = errors.New("ezq: the router has not been started")
	errStopping   = errors.New("ezq: the router is stopping")
	errStopped    = errors.New("ezq: the router has stopped")
)
