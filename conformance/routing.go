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

// routing is a router that runs in a case.
type routing struct {
	b       *bench
	stop    context.CancelFunc
	ended   chan struct{}
	failure error // of the router, once ended is closed
}

// start runs a router at a peer. It is stopped with the case, if not before.
func (p *peer) start(config ezq.Config, topics []string, attach func(*ezq.Router)) *routing {
	for _, topic := range topics {
		p.initialize(topic)
	}
	var reported report
	config.Logger = slog.New(&reported)
	router := ezq.NewRouter(p.Subscriber, &config)
	attach(router)
	ctx, stop := context.WithCancel(p.b.ctx)
	r := &routing{b: p.b, stop: stop, ended: make(chan struct{})}
	p.mu.Lock()
	p.routings = append(p.routings, r)
	p.mu.Unlock()
	go func() {
		defer close(r.ended)
		if p.b.suite.attached {
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

// report is a log that keeps what a router that is attached says of its end, which
// Run would have returned.
type report struct {
	mu  sync.Mutex
	err error
}

var _ slog.Handler = (*report)(nil)

func (r *report) Enabled(context.Context, slog.Level) bool { return true }
func (r *report) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *report) WithGroup(string) slog.Handler            { return r }

func (r *report) Handle(_ context.Context, record slog.Record) error {
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

func (r *report) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// handle runs a router with one handler of visits on one topic.
func (p *peer) handle(topic string, config ezq.Config, handler func(context.Context, visit) error) *routing {
	return p.start(config, []string{topic}, func(r *ezq.Router) {
		ezq.Handle(r, handler, ezq.Topic(topic))
	})
}

// emit publishes events in one call.
func (p *peer) emit(topic string, events ...any) {
	p.b.must("ezq.Publish", func() error {
		return ezq.PublishBatch(p.b.ctx, p.Publisher, events, ezq.Topic(topic))
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
func (r *routing) wait() error {
	r.b.require(closedWithin(r.ended, r.b.patience), "the router was still running after %v", r.b.patience)
	return r.failure
}

// mustEnd stops the router, which must end without error.
func (r *routing) mustEnd() {
	r.stop()
	if err := r.wait(); err != nil {
		r.b.fail("the router ended with the error %q", err)
	}
}

// next returns what a handler has sent.
func next[T any](b *bench, from <-chan T, what string) (v T) {
	timer := time.NewTimer(b.patience)
	defer timer.Stop()
	select {
	case v = <-from:
	case <-timer.C:
		b.fail("%s within %v", what, b.patience)
	}
	return v
}

// nothing fails if a handler sends something in that time.
func nothing[T any](b *bench, from <-chan T, d time.Duration, format string) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case v := <-from:
		b.fail(format, v)
	case <-timer.C:
	}
}

// collect waits until a handler has sent each label. Any label may come again, though not
// for ever.
func collect(b *bench, from <-chan string, labels ...string) {
	missing := map[string]bool{}
	for _, label := range labels {
		missing[label] = true
	}
	for again := 100 * len(labels); len(missing) > 0; again-- {
		b.require(again > 0, "some events are handled again and again, and others, among them %s, are not", anyOf(missing))
		delete(missing, next(b, from, "not all events were handled, among them "+anyOf(missing)))
	}
}
