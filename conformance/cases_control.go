package conformance

import (
	"context"
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

func endEventEnds(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	handled := make(chan string, 100)
	p.initialize(topic)
	publishEvents(p, topic, append(append(visits(numbered(20)...), ezq.EndEvent{}), visits("after")...)...)
	report := func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	}
	if err := handleVisits(p, topic, ezq.Config{Concurrency: 30}, report).wait(); err != nil {
		h.fail("the router ended with the error %q", err)
	}
	h.require(len(handled) == 20, "the router had handled %d events when it ended, and 20 came before the EndEvent", len(handled))
	collect(h, handled, numbered(20)...)
	handleVisits(connect(h, PeerConfig{}), topic, ezq.Config{}, report)
	collect(h, handled, "after")
}

func endEventStopsOne(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	handled := make(chan string, 100)
	report := func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	}
	first, second := handleVisits(one, topic, ezq.Config{}, report), handleVisits(two, topic, ezq.Config{}, report)
	publishEvents(one, topic, ezq.EndEvent{})
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
	publishEvents(one, topic, visit{"a"})
	collect(h, handled, "a")
	going.mustStop()
	third := handleVisits(connect(h, PeerConfig{}), topic, ezq.Config{}, report)
	h.require(!closedWithin(third.ended, quietPeriod), "the EndEvent ended a router that started later")
	third.mustStop()
}

func interruptEventInterrupts(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	handler := newInterruptedHandler()
	r := handleVisits(p, topic, ezq.Config{DrainTimeout: time.Hour}, handler.handle)
	publishEvents(p, topic, visit{"a"})
	next(h, handler.begun, "the event was not handled")
	publishEvents(p, topic, ezq.InterruptEvent{})
	handler.requireInterruptedBy(r, ezq.ErrInterrupted)
	handleVisits(connect(h, PeerConfig{}), topic, ezq.Config{}, handler.handle)
	next(h, handler.again, "the event did not come back")
}
