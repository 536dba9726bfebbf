package conformance

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/ezq"
)

// visit is the event that routers handle in the cases.
type visit struct {
	Label string
}

func (visit) EventName() string { return "ConformanceVisit" }

// runningRouter is a router that runs in a case.
type runningRouter struct {
	h       *harness
	stop    context.CancelFunc
	ended   chan struct{}
	failure error // of the router, once ended is closed
}

// start runs a router at a peer. It is stopped with the case, if not before.
func (p *peer) start(config ezq.Config, topics []string, attach func(*ezq.Router)) *runningRouter {
	for _, topic := range topics {
		p.initialize(topic)
	}
	var reported stopLog
	config.Logger = slog.New(&reported)
	router := ezq.NewRouter(p.Subscriber, &config)
	attach(router)
	ctx, stop := context.WithCancel(p.h.ctx)
	r := &runningRouter{h: p.h, stop: stop, ended: make(chan struct{})}
	p.mu.Lock()
	p.routers = append(p.routers, r)
	p.mu.Unlock()
	go func() {
		defer close(r.ended)
		if p.h.suite.attached {
			r.failure = cmp.Or(runAttached(ctx, router), reported.failure())
		} else {
			r.failure = router.Run(ctx)
		}
	}()
	return r
}

// runAttached runs a Watermill router with the topics of router until ctx ends, or
// all its handlers have.
func runAttached(ctx context.Context, router *ezq.Router) error {
	w, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	if err := router.Attach(w); err != nil {
		return err
	}
	return w.Run(ctx)
}

// stopLog is a log that keeps what a router that is attached says of its end, which
// Run would have returned.
type stopLog struct {
	mu  sync.Mutex
	err error
}

var _ slog.Handler = (*stopLog)(nil)

func (r *stopLog) Enabled(context.Context, slog.Level) bool { return true }
func (r *stopLog) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *stopLog) WithGroup(string) slog.Handler            { return r }

func (r *stopLog) Handle(_ context.Context, record slog.Record) error {
	if record.Message != "ezq: the router has stopped" {
		return nil
	}
	record.Attrs(func(a slog.Attr) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err, ok := a.Value.Any().(error); ok {
			r.err = err
		}
		return true
	})
	return nil
}

func (r *stopLog) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// handle runs a router with one handler of visits on one topic.
func (p *peer) handle(topic string, config ezq.Config, handler func(context.Context, visit) error) *runningRouter {
	return p.start(config, []string{topic}, func(r *ezq.Router) {
		ezq.Handle(r, handler, ezq.Topic(topic))
	})
}

// publishEvents publishes events in one call.
func (p *peer) publishEvents(topic string, events ...any) {
	p.h.must("ezq.Publish", func() error {
		return ezq.PublishBatch(p.h.ctx, p.Publisher, events, ezq.Topic(topic))
	})
}

// visits returns one event for each label.
func visits(labels ...string) (events []any) {
	for _, label := range labels {
		events = append(events, visit{label})
	}
	return events
}

// wait waits until the router has ended, and returns its error.
func (r *runningRouter) wait() error {
	r.h.require(closedWithin(r.ended, r.h.timeout), "the router was still running after %v", r.h.timeout)
	return r.failure
}

// mustStop stops the router, which must end without error.
func (r *runningRouter) mustStop() {
	r.stop()
	if err := r.wait(); err != nil {
		r.h.fail("the router ended with the error %q", err)
	}
}

// next returns what a handler has sent.
func next[T any](h *harness, from <-chan T, what string) (v T) {
	timer := time.NewTimer(h.timeout)
	defer timer.Stop()
	select {
	case v = <-from:
	case <-timer.C:
		h.fail("%s within %v", what, h.timeout)
	}
	return v
}

// nothing fails if a handler sends something in that time.
func nothing[T any](h *harness, from <-chan T, d time.Duration, format string) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case v := <-from:
		h.fail(format, v)
	case <-timer.C:
	}
}

// collect waits until a handler has sent each label. Any label may come again, though not
// for ever.
func collect(h *harness, from <-chan string, labels ...string) {
	missing := map[string]bool{}
	for _, label := range labels {
		missing[label] = true
	}
	for again := 100 * len(labels); len(missing) > 0; again-- {
		h.require(again > 0, "some events are handled again and again, and others, among them %s, are not", anyOf(missing))
		delete(missing, next(h, from, "not all events were handled, among them "+anyOf(missing)))
	}
}
