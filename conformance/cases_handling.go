package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/ezq"
)

func handling() []Case {
	return theme("router",
		promise("a handled event is done",
			"Each event is handled; what was handled is not in the queue any more.",
			needsDurable, handledIsDone),
		promise("a failed event is handled again",
			"An event whose handler returns an error, or panics, is handled again.",
			needsDurable, failedIsHandledAgain),
		promise("failures are counted",
			"A handler knows how often its event has failed, and the number of its delivery.",
			needsDurable|needsProgress|needsAttempts, failuresAreCounted),
		promise("RetryAfter waits",
			"An event whose handler returns RetryAfter is not handled again sooner, and without undue delay then.",
			needsDurable|needsRedelay, retryAfterWaits),
		promise("only who failed runs again",
			"Of several handlers of an event those that have succeeded do not run again when another one fails.",
			needsDurable|needsProgress, onlyFailedRunsAgain),
		promise("an event for later waits",
			"An event that is published with a delay is not handled sooner.",
			needsDurable|needsDelay, laterWaits),
		promise("a slow handler holds up no other topic",
			"While all handlers of one topic are busy, the events of another are handled.",
			needsDurable, slowHandlerHoldsUpNoOther),
		promise("an unknown event stays",
			"An event that no handler takes stays in the queue, for a router that knows it.",
			needsDurable, unknownStays),
		promise("what has not begun is not delivered",
			"Events that wait for their turn when their router stops go to the next one in their order, and no delivery of theirs is counted.",
			needsDurable|needsOrdered|needsAttempts|needsDrain, notBegunIsNotDelivered),
		promise("an event is published with the work",
			"An event that a handler publishes in a transaction exists if that is committed, and not if it is rolled back.",
			needsDurable|needsTransactions, publishedWithWork),
		promise("a handler knows the topic",
			"A handler whose group takes a pattern knows the topic of each event, also when it is handled again; any other handler has that of its router.",
			needsDurable|needsGroups|needsPatterns|needsProgress, handlerKnowsTopic),
	)
}

func handledIsDone(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	handled := make(chan string, 100)
	r := handleVisits(p, topic, ezq.Config{}, func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	})
	publishEvents(p, topic, visits(numbered(20)...)...)
	collect(h, handled, numbered(20)...)
	r.mustStop()
	connect(h, PeerConfig{}).subscribe(topic).none(quietPeriod+2*h.system.Lease, "its event was handled")
}

func failedIsHandledAgain(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	handled := make(chan string, 100)
	failed := map[string]bool{}
	handleVisits(p, topic, ezq.Config{Concurrency: 1}, func(_ context.Context, e visit) error {
		if !failed[e.Label] {
			failed[e.Label] = true
			if e.Label == "panics" {
				panic(errVisit)
			}
			return ezq.RetryAfter(0, errVisit)
		}
		handled <- e.Label
		return nil
	})
	publishEvents(p, topic, visits("fails", "panics")...)
	collect(h, handled, "fails", "panics")
}

func failuresAreCounted(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	metas := make(chan ezq.Meta, 100)
	handleVisits(p, topic, ezq.Config{}, func(ctx context.Context, _ visit) error {
		metas <- ezq.MetaFromContext(ctx)
		return ezq.RetryAfter(0, errVisit)
	})
	publishEvents(p, topic, visit{"a"})
	for n := range 4 {
		meta := next(h, metas, "the event was not handled again")
		h.require(meta.Failures == n, "the handler was told of %d failures instead of %d", meta.Failures, n)
		h.require(meta.Delivery == n+1, "the handler was told of delivery %d instead of %d", meta.Delivery, n+1)
	}
}

func handlerKnowsTopic(h *harness) {
	p, plain, topic := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{}), h.topic()
	metas := make(chan ezq.Meta, 100)
	handler := func(ctx context.Context, _ visit) error {
		meta := ezq.MetaFromContext(ctx)
		metas <- meta
		if meta.Failures == 0 {
			return ezq.RetryAfter(0, errVisit)
		}
		return nil
	}
	handleVisits(p, topic+".*", ezq.Config{}, handler)
	for _, published := range [...]string{topic + ".eu", topic + ".größe"} {
		publishEvents(p, published, visit{"a"})
		for range 2 {
			meta := next(h, metas, "the event was not handled")
			h.require(meta.PublishedTo == published && meta.Topic == topic+".*", "an event of %q says that it was published to %q, and came by %q", published, meta.PublishedTo, meta.Topic)
		}
	}
	own := h.topic()
	handleVisits(plain, own, ezq.Config{}, handler)
	publishEvents(p, own, visit{"a"})
	for range 2 {
		meta := next(h, metas, "the event was not handled")
		h.require(meta.PublishedTo == own && meta.Topic == own, "an event of %q says that it was published to %q, and came by %q", own, meta.PublishedTo, meta.Topic)
	}
}

func retryAfterWaits(h *harness) {
	p, topic, d := connect(h, PeerConfig{}), h.topic(), noticeableDelay(h)
	handled := make(chan time.Time, 100)
	first := true
	handleVisits(p, topic, ezq.Config{Concurrency: 1}, func(context.Context, visit) error {
		handled <- time.Now()
		if first {
			first = false
			return ezq.RetryAfter(d, errVisit)
		}
		return nil
	})
	publishEvents(p, topic, visit{"a"})
	start := next(h, handled, "the event was not handled")
	requireDelay(h, next(h, handled, "the event was not handled again").Sub(start), d)
}

func onlyFailedRunsAgain(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	var steady atomic.Int32
	runs, late := 0, make(chan int32, 100)
	startRouter(p, ezq.Config{}, []string{topic}, func(r *ezq.Router) {
		ezq.Handle(r, func(context.Context, visit) error {
			steady.Add(1)
			return nil
		}, ezq.Topic(topic), ezq.Name("steady"))
		ezq.Handle(r, func(ctx context.Context, _ visit) error {
			if runs++; ezq.MetaFromContext(ctx).Failures < 3 && runs < 100 {
				return ezq.RetryAfter(0, errVisit)
			}
			late <- steady.Load()
			return nil
		}, ezq.Topic(topic), ezq.Name("late"))
	})
	publishEvents(p, topic, visit{"a"})
	ran := next(h, late, "the event was not handled again")
	h.require(ran == 1, "the handler that succeeds ran %d times", ran)
	nothing(h, late, quietPeriod, "the event was handled again, after %d runs of the handler that succeeds")
}

func laterWaits(h *harness) {
	p, topic, d := connect(h, PeerConfig{}), h.topic(), noticeableDelay(h)
	handled := make(chan string, 100)
	handleVisits(p, topic, ezq.Config{}, func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	})
	start := time.Now()
	h.must("ezq.Publish with a delay", func() error {
		return ezq.Publish(h.ctx, p.Publisher, visit{"a"}, ezq.Topic(topic), ezq.Delay(d))
	})
	next(h, handled, "the event was not handled")
	requireDelay(h, time.Since(start), d)
}

func slowHandlerHoldsUpNoOther(h *harness) {
	p, slow, fast := connect(h, PeerConfig{}), h.topic(), h.topic()
	begun, handled, release := make(chan string, 100), make(chan string, 100), make(chan struct{})
	defer close(release)
	startRouter(p, ezq.Config{Concurrency: 2}, []string{slow, fast}, func(r *ezq.Router) {
		ezq.Handle(r, func(ctx context.Context, e visit) error {
			begun <- e.Label
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}, ezq.Topic(slow))
		ezq.Handle(r, func(_ context.Context, e visit) error {
			handled <- e.Label
			return nil
		}, ezq.Topic(fast))
	})
	publishEvents(p, slow, visits(numbered(20)...)...)
	next(h, begun, "the event was not handled")
	time.Sleep(quietPeriod) // so that the other one is busy, too, where messages come side by side
	publishEvents(p, fast, visits(numbered(20)...)...)
	collect(h, handled, numbered(20)...)
}

func unknownStays(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	handled := make(chan string, 100)
	r := handleVisits(p, topic, ezq.Config{}, func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	})
	publishEvents(p, topic, visit{"a"}, unknownEvent{})
	collect(h, handled, "a")
	nothing(h, handled, quietPeriod, "the event %q was handled again") // time enough to be taken
	r.mustStop()
	startRouter(connect(h, PeerConfig{}), ezq.Config{}, []string{topic}, func(r *ezq.Router) {
		ezq.Handle(r, func(context.Context, unknownEvent) error {
			handled <- "stranger"
			return nil
		}, ezq.Topic(topic))
	})
	collect(h, handled, "stranger")
}

func notBegunIsNotDelivered(h *harness) {
	p, topic, labels := connect(h, PeerConfig{}), h.topic(), numbered(40)
	begun, finish := make(chan string, 100), make(chan struct{})
	r := handleVisits(p, topic, ezq.Config{Concurrency: 2, DrainTimeout: h.timeout}, func(_ context.Context, e visit) error {
		begun <- e.Label
		<-finish
		return nil
	})
	h.must("ezq.Publish", func() error {
		return ezq.PublishBatch(h.ctx, p.Publisher, visits(labels...), ezq.Topic(topic), ezq.Key("one"))
	})
	first := next(h, begun, "the event was not handled")
	h.require(first == labels[0], "event %q was handled first", first)
	time.Sleep(quietPeriod) // so that some of the others wait for their key, and not all
	r.stop()
	time.Sleep(quietPeriod) // so that the router has noticed
	close(finish)
	r.mustStop()
	handled := 1
	for ; len(begun) > 0; handled++ { // before it has noticed, on a busy machine
		label := <-begun
		h.require(handled < len(labels) && label == labels[handled], "event %s was handled before others that came first", label)
	}
	h.require(handled < len(labels), "all events were handled while their router stopped")

	metas := make(chan ezq.Meta, 100)
	handleVisits(connect(h, PeerConfig{}), topic, ezq.Config{Concurrency: 1}, func(ctx context.Context, e visit) error {
		begun <- e.Label
		metas <- ezq.MetaFromContext(ctx)
		return nil
	})
	for _, label := range labels[handled:] {
		got := next(h, begun, "an event that had not begun when its router stopped was not handled by the next one")
		h.require(got == label, "event %s was handled before event %s, which came first", got, label)
		meta := next(h, metas, "the handler of event "+label+" did not go on")
		h.require(meta.Delivery == 1, "an event that had not begun when its router stopped came as delivery %d", meta.Delivery)
	}
}

func publishedWithWork(h *harness) {
	p, topic, results := connect(h, PeerConfig{}), h.topic(), h.topic()
	h.require(p.Begin != nil, "Transactions is promised, and Connect returned a Peer without Begin")
	in := p.subscribe(results)
	failed := false
	handleVisits(p, topic, ezq.Config{Concurrency: 1}, func(ctx context.Context, e visit) error {
		tx, err := p.Begin(ctx)
		if err != nil {
			return err
		}
		msgs := h.messages(fmt.Sprint(e.Label, failed))
		if err := tx.Publisher.Publish(results, msgs...); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if !failed {
			failed = true
			return ezq.RetryAfter(0, errors.Join(errVisit, tx.Rollback()))
		}
		return tx.Commit()
	})
	publishEvents(p, topic, visit{"a"})
	h.ack(in.expect("atrue"))
	in.none(quietPeriod, "its transaction was rolled back")
}
