package conformance

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/ezq-go/ezq/ezq"
)

// runningRouter is a router that runs in a case.
type runningRouter struct {
	h       *harness
	stop    context.CancelFunc
	ended   chan struct{}
	failure error // of the router, once ended is closed
}

// startRouter runs a router at a peer. It is stopped with the case, if not before.
func startRouter(p *peer, config ezq.Config, topics []string, attach func(*ezq.Router)) *runningRouter {
	for _, topic := range topics {
		p.initialize(topic)
	}
	var reported stopLog
	config.Logger = slog.New(&reported)
	router := ezq.NewRouter(p.Subscriber, &config)
	attach(router)
	ctx, stop := context.WithCancel(p.h.ctx)
	r := &runningRouter{h: p.h, stop: stop, ended: make(chan struct{})}
	p.h.atEnd(stopRouters, r.stopAtEnd)
	go func() {
		defer close(r.ended)
		if p.h.attached {
			r.failure = cmp.Or(runAttached(ctx, router), reported.failure())
		} else {
			r.failure = router.Run(ctx)
		}
	}()
	return r
}

// handleVisits runs a router with one handler of visits on one topic.
func handleVisits(p *peer, topic string, config ezq.Config, handler func(context.Context, visit) error) *runningRouter {
	return startRouter(p, config, []string{topic}, func(r *ezq.Router) {
		ezq.Handle(r, handler, ezq.Topic(topic))
	})
}

// publishEvents publishes events in one call.
func publishEvents(p *peer, topic string, events ...any) {
	p.h.must("ezq.Publish", func() error {
		return ezq.PublishBatch(p.h.ctx, p.Publisher, events, ezq.Topic(topic))
	})
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

// stopAtEnd stops the router when the case is over.
func (r *runningRouter) stopAtEnd() {
	r.stop()
	if !closedWithin(r.ended, r.h.timeout) {
		r.h.record("the router was still running %v after it was stopped", r.h.timeout)
	}
}
