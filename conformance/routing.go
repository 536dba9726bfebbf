package conformance

import (
	"context"
	"log/slog"
	"time"

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
	failure error // of Run, once ended is closed
}

// start runs a router at a peer. It is stopped with the case, if not before.
func (p *peer) start(config ezq.Config, topics []string, attach func(*ezq.Router)) *routing {
	for _, topic := range topics {
		p.initialize(topic)
	}
	config.Logger = slog.New(slog.DiscardHandler)
	router := ezq.NewRouter(p.Subscriber, config)
	attach(router)
	ctx, stop := context.WithCancel(p.b.ctx)
	r := &routing{b: p.b, stop: stop, ended: make(chan struct{})}
	p.mu.Lock()
	p.routings = append(p.routings, r)
	p.mu.Unlock()
	go func() {
		defer close(r.ended)
		r.failure = router.Run(ctx)
	}()
	return r
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
