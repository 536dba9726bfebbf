package conformance

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/ezq"
)

func control() []Case {
	return theme("control events",
		promise("EndEvent ends after what came before it",
			"A router that receives an EndEvent has handled the events before it, each once, and ends without error; those after it stay.",
			needsDurable|needsOrdered, endEventEnds),
		promise("EndEvent stops one router, once",
			"Of two routers one ends; the other, and one that starts later, go on.",
			needsDurable, endEventStopsOne),
		promise("InterruptEvent interrupts",
			"A router that receives an InterruptEvent ends its handlers' contexts, with the cause ErrInterrupted, and their events come back.",
			needsDurable, interruptEventInterrupts),
	)
}

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

func endEventEnds(h *harness) {
	p, topic := h.connect(Options{}), h.topic()
	handled := make(chan string, 100)
	p.initialize(topic)
	p.publishEvents(topic, append(append(visits(numbered(20)...), ezq.EndEvent{}), visits("after")...)...)
	report := func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	}
	if err := p.handle(topic, ezq.Config{Concurrency: 30}, report).wait(); err != nil {
		h.fail("the router ended with the error %q", err)
	}
	h.require(len(handled) == 20, "the router had handled %d events when it ended, and 20 came before the EndEvent", len(handled))
	collect(h, handled, numbered(20)...)
	h.connect(Options{}).handle(topic, ezq.Config{}, report)
	collect(h, handled, "after")
}

func endEventStopsOne(h *harness) {
	one, two, topic := h.connect(Options{}), h.connect(Options{}), h.topic()
	handled := make(chan string, 100)
	report := func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	}
	first, second := one.handle(topic, ezq.Config{}, report), two.handle(topic, ezq.Config{}, report)
	one.publishEvents(topic, ezq.EndEvent{})
	ended, going := first, second
	select {
	case <-first.ended:
	case <-second.ended:
		ended, going = second, first
	case <-time.After(h.timeout):
	}
	if err := ended.wait(); err != nil {
		h.fail("the router ended with the error %q", err)
	}
	h.require(!closedWithin(going.ended, quietPeriod+2*h.system.Lease), "one EndEvent ended two routers")
	one.publishEvents(topic, visit{"a"})
	collect(h, handled, "a")
	going.mustStop()
	third := h.connect(Options{}).handle(topic, ezq.Config{}, report)
	h.require(!closedWithin(third.ended, quietPeriod), "the EndEvent ended a router that started later")
	third.mustStop()
}

// untilInterrupted returns a handler that waits for its context to end, the first time,
// and the channels on which it says so and reports the cause and the later deliveries.
func untilInterrupted() (handler func(context.Context, visit) error, begun chan struct{}, causes chan error, again chan ezq.Meta) {
	begun, causes, again = make(chan struct{}), make(chan error, 1), make(chan ezq.Meta, 100)
	var known atomic.Bool
	return func(ctx context.Context, _ visit) error {
		if known.Swap(true) {
			again <- ezq.MetaFromContext(ctx)
			return nil
		}
		close(begun)
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	}, begun, causes, again
}

func interruptEventInterrupts(h *harness) {
	p, topic := h.connect(Options{}), h.topic()
	handler, begun, causes, again := untilInterrupted()
	r := p.handle(topic, ezq.Config{DrainTimeout: time.Hour}, handler)
	p.publishEvents(topic, visit{"a"})
	next(h, begun, "the event was not handled")
	p.publishEvents(topic, ezq.InterruptEvent{})
	h.requireInterrupted(r, causes, ezq.ErrInterrupted)
	h.connect(Options{}).handle(topic, ezq.Config{}, handler)
	next(h, again, "the event did not come back")
}

// requireInterrupted ends the case unless a router has interrupted its handler and ended
// with that error.
func (h *harness) requireInterrupted(r *runningRouter, causes <-chan error, want error) {
	cause := next(h, causes, "the context of the handler did not end")
	h.require(errors.Is(cause, ezq.ErrInterrupted), "the context of the handler ended with the cause %q instead of ErrInterrupted", cause)
	err := r.wait()
	h.require(errors.Is(err, want), "the router ended with the error %q instead of %q", err, want)
}

func handlersFinish(h *harness) {
	p, topic := h.connect(Options{}), h.topic()
	begun, outcome := make(chan struct{}), make(chan error, 100)
	finish := make(chan struct{})
	r := p.handle(topic, ezq.Config{DrainTimeout: time.Hour}, func(ctx context.Context, _ visit) error {
		close(begun)
		<-finish
		outcome <- ctx.Err()
		return nil
	})
	p.publishEvents(topic, visit{"a"})
	next(h, begun, "the event was not handled")
	r.stop()
	h.require(!closedWithin(r.ended, 2*quietPeriod), "the router did not wait for its handler")
	close(finish)
	err := next(h, outcome, "the handler did not finish")
	h.require(err == nil, "the context of the handler ended while the router was waiting for it")
	r.mustStop()
	h.connect(Options{}).subscribe(topic).none(quietPeriod+2*h.system.Lease, "its handler has finished")
}

func slowHandlerIsInterrupted(h *harness) {
	p, topic := h.connect(Options{}), h.topic()
	handler, begun, causes, again := untilInterrupted()
	r := p.handle(topic, ezq.Config{DrainTimeout: 2 * quietPeriod}, handler)
	p.publishEvents(topic, visit{"a"})
	next(h, begun, "the event was not handled")
	r.stop()
	h.requireInterrupted(r, causes, ezq.ErrDrainTimeout)
	h.connect(Options{}).handle(topic, ezq.Config{}, handler)
	meta := next(h, again, "the event did not come back")
	h.require(meta.Failures == 0, "an event that was interrupted has %d failures", meta.Failures)
}

func stopLosesNothing(h *harness) {
	topic := h.topic()
	first := h.connect(Options{})
	first.initialize(topic)
	first.publishEvents(topic, visits(numbered(60)...)...)
	missing := map[string]bool{}
	for _, label := range numbered(60) {
		missing[label] = true
	}
	for rounds := 60; len(missing) > 0; rounds-- {
		h.require(rounds > 0, "some events are handled again and again, and others, among them %s, are not", anyOf(missing))
		h.stopAmongEvents(topic, missing)
	}
}

// stopAmongEvents runs a router until it has handled a few more events, and stops it while
// others are with its handlers.
func (h *harness) stopAmongEvents(topic string, missing map[string]bool) {
	const few = 10
	handled, stopped := make(chan string, few), make(chan struct{})
	var begun atomic.Int32
	r := h.connect(Options{}).handle(topic, ezq.Config{Concurrency: 5, DrainTimeout: h.timeout}, func(ctx context.Context, e visit) error {
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
