package conformance

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/ezq"
)

func stoppingRouters() []Case {
	return theme("stopping a router",
		promise("handlers finish",
			"A router whose context ends waits for its handlers, whose contexts live on; what they have done is done.",
			needsDurable|needsDrain, handlersFinish),
		promise("who takes too long is interrupted",
			"A handler that takes longer than DrainTimeout is interrupted, and its event comes back as if it had not been delivered.",
			needsDurable|needsDrain, slowHandlerIsInterrupted),
		promise("a stop loses nothing",
			"Of many events, handled by routers that are stopped again and again, each is handled.",
			needsDurable, stopLosesNothing),
	)
}

func handlersFinish(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	begun, outcome := make(chan struct{}), make(chan error, 100)
	finish := make(chan struct{})
	r := handleVisits(p, topic, ezq.Config{DrainTimeout: time.Hour}, func(ctx context.Context, _ visit) error {
		close(begun)
		<-finish
		outcome <- ctx.Err()
		return nil
	})
	publishEvents(p, topic, visit{"a"})
	next(h, begun, "the event was not handled")
	r.stop()
	h.require(!closedWithin(r.ended, 2*quietPeriod), "the router did not wait for its handler")
	close(finish)
	err := next(h, outcome, "the handler did not finish")
	h.require(err == nil, "the context of the handler ended while the router was waiting for it")
	r.mustStop()
	connect(h, PeerConfig{}).subscribe(topic).none(quietPeriod+2*h.system.Lease, "its handler has finished")
}

func slowHandlerIsInterrupted(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	handler := newInterruptedHandler()
	r := handleVisits(p, topic, ezq.Config{DrainTimeout: 2 * quietPeriod}, handler.handle)
	publishEvents(p, topic, visit{"a"})
	next(h, handler.begun, "the event was not handled")
	r.stop()
	handler.requireInterruptedBy(r, ezq.ErrDrainTimeout)
	handleVisits(connect(h, PeerConfig{}), topic, ezq.Config{}, handler.handle)
	meta := next(h, handler.again, "the event did not come back")
	h.require(meta.Failures == 0, "an event that was interrupted has %d failures", meta.Failures)
}

func stopLosesNothing(h *harness) {
	topic := h.topic()
	first := connect(h, PeerConfig{})
	first.initialize(topic)
	publishEvents(first, topic, visits(numbered(60)...)...)
	missing := setOf(numbered(60))
	for rounds := 60; len(missing) > 0; rounds-- {
		h.require(rounds > 0, "some events are handled again and again, and others, among them %s, are not", anyOf(missing))
		stopAmongEvents(h, topic, missing)
	}
}

// stopAmongEvents runs a router until it has handled a few more events, and stops it while
// others are with its handlers.
func stopAmongEvents(h *harness, topic string, missing map[string]bool) {
	const few = 10
	handled, stopped := make(chan string, few), make(chan struct{})
	var begun atomic.Int32
	r := handleVisits(connect(h, PeerConfig{}), topic, ezq.Config{Concurrency: 5, DrainTimeout: h.timeout}, func(ctx context.Context, e visit) error {
		if begun.Add(1) <= few {
			handled <- e.Label
			return nil
		}
		select {
		case <-stopped:
		case <-ctx.Done():
		}
		return ezq.RetryAfter(0, errVisit)
	})
	for range min(few, len(missing)) {
		delete(missing, next(h, handled, "not all events were handled, among them "+anyOf(missing)))
	}
	r.stop()
	time.Sleep(quietPeriod / 10) // so that handlers fail after the stop
	close(stopped)
	r.mustStop()
}
