package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func stopping() []Case {
	return theme("stopping",
		promise("a context ends with its message",
			"The context of a message lives until the message is settled, and ends then.",
			0, contextEndsWithMessage),
		promise("Close ends the contexts",
			"The context of a message that is not settled ends with Close.",
			0, closeEndsContexts),
		promise("Close loses nothing",
			"Of many messages, some acked and some in flight whenever a subscriber is closed, each arrives in the end, and none that was acked comes again.",
			needsDurable, closeLosesNothing),
		promise("the end of a context loses nothing",
			"Of many messages, some acked and some in flight whenever the context of a subscription ends, each arrives in the end.",
			needsDurable, deadlineLosesNothing),
		promise("what was not handed over goes back",
			"What a closed subscriber had fetched, and its consumer had not received, arrives elsewhere without undue delay.",
			needsDurable, unreceivedGoesBack),
		promise("contexts live while their consumer drains",
			"After Stopping nothing more is handed over, the contexts of messages live on, an ack counts, and the channel is closed after the last one.",
			needsDrain, contextsLiveWhileDraining),
		promise("who does not wait says so",
			"When the context of a draining subscription ends, the contexts of its messages end, with its cause.",
			needsDrain, consumerDoesNotWait),
		promise("a nack while draining goes back",
			"A message that is nacked while its consumer drains arrives elsewhere.",
			needsDrain, nackWhileDraining),
		promise("a consumer gets what it can handle",
			"A consumer that says how many messages it handles at a time gets no more than those at once.",
			needsDrain, consumerGetsWhatItCanHandle),
		promise("what is parked makes room",
			"A consumer that parks a message gets another one for it.",
			needsDrain, parkedMakesRoom),
	)
}

func contextEndsWithMessage(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	msg := in.receive()
	h.require(!closedWithin(msg.Context().Done(), quietPeriod), "the context of a message ended before it was settled")
	h.ack(msg)
	awaitContextEnd(h, msg, "it was acked")
}

func closeEndsContexts(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	msg := in.receive()
	closed := make(chan error, 1)
	go func() { closed <- p.close() }()
	awaitContextEnd(h, msg, "its subscriber was closed")
	msg.Nack()
	if err := <-closed; err != nil {
		h.fail("Close: %v", err)
	}
}

func closeLosesNothing(h *harness) {
	endRepeatedly(h, func(_ context.CancelFunc, p *peer) { p.mustClose() })
}

func deadlineLosesNothing(h *harness) {
	endRepeatedly(h, func(stop context.CancelFunc, _ *peer) { stop() })
}

// endRepeatedly has subscriptions ended in the middle of their messages, until all have come.
func endRepeatedly(h *harness, end func(context.CancelFunc, *peer)) {
	topic, labels := h.topic(), numbered(40)
	first := connect(h, PeerConfig{})
	first.initialize(topic)
	first.publish(topic, labels...)
	missing := setOf(labels)
	for round := 0; len(missing) > 0; round++ {
		p := connect(h, PeerConfig{})
		ctx, stop := context.WithCancel(h.ctx)
		in := p.subscribeWith(ctx, topic)
		var unsettled []*message.Message
		for i := range min(12, len(missing)) {
			msg := in.within(untilNext(h, len(unsettled)))
			if msg == nil && len(unsettled) > 0 {
				break // it hands over no more before those are settled, as it may
			}
			if msg == nil {
				h.fail("%d of %d messages did not come within %v, among them %s", len(missing), len(labels), h.timeout, anyOf(missing))
			}
			h.require(missing[h.label(msg)], "%q came again, although it was acked", h.label(msg))
			if i%4 == 3 && len(missing) > 4 {
				unsettled = append(unsettled, msg)
				continue
			}
			delete(missing, h.label(msg))
			h.ack(msg)
		}
		go func() { // as handlers do that are interrupted
			for _, msg := range unsettled {
				<-msg.Context().Done()
				msg.Nack()
			}
		}()
		if round%2 == 0 {
			time.Sleep(quietPeriod) // so that more has been fetched, where that is done ahead
		}
		end(stop, p)
		in.end("its subscription was ended")
		stop()
	}
}

// untilNext is how long to wait for a message while others are in flight.
func untilNext(h *harness, inFlight int) time.Duration {
	if inFlight > 0 {
		return 2 * quietPeriod
	}
	return h.timeout
}

func unreceivedGoesBack(h *harness) {
	topic := h.topic()
	first := connect(h, PeerConfig{})
	in := first.subscribe(topic)
	first.publish(topic, numbered(20)...)
	h.ack(in.receive())
	time.Sleep(quietPeriod) // so the others have been fetched, where that is done ahead
	start := time.Now()
	first.mustClose()
	second := connect(h, PeerConfig{}).subscribe(topic)
	for range 19 {
		h.ack(second.receive())
	}
	requireDelay(h, time.Since(start), 0)
}

// subscribeAsConsumer subscribes as a consumer that says when it stops.
func subscribeAsConsumer(p *peer, topic string, concurrency int) (in *inbox, stop func(), end context.CancelCauseFunc) {
	stopping := make(chan struct{})
	ctx, end := context.WithCancelCause(p.h.ctx)
	ctx = backend.WithConsumer(ctx, backend.Consumer{Stopping: stopping, Concurrency: concurrency})
	return p.subscribeWith(ctx, topic), func() { close(stopping) }, end
}

func contextsLiveWhileDraining(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in, stop, end := subscribeAsConsumer(p, topic, 2)
	defer end(nil)
	p.publish(topic, "0", "1")
	first, second := in.receive(), in.receive()
	stop()
	p.publish(topic, "late")
	requireQuiet(h, in, max(2*time.Second, 3*h.system.Lease))
	h.require(first.Context().Err() == nil && second.Context().Err() == nil,
		"the context of a message ended while its consumer was draining")
	h.ack(first)
	requireQuiet(h, in, quietPeriod)
	h.ack(second)
	in.end("the last message was settled")
	other := connect(h, PeerConfig{}).subscribe(topic)
	h.ack(other.expect("late"))
	other.none(quietPeriod+2*h.system.Lease, "it was acked while its consumer was draining")
}

// requireQuiet ends the case if a message comes in that time, or the channel is closed.
func requireQuiet(h *harness, in *inbox, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case msg, open := <-in.messages:
		h.require(open, "the channel was closed before all messages were settled")
		msg.Nack()
		h.fail("%q came after Stopping", h.label(msg))
	case <-timer.C:
	}
}

func consumerDoesNotWait(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in, stop, end := subscribeAsConsumer(p, topic, 1)
	p.publish(topic, "a")
	msg := in.receive()
	stop()
	reason := errors.New("out of patience")
	end(reason)
	awaitContextEnd(h, msg, "that of its subscription had")
	cause := context.Cause(msg.Context())
	h.require(errors.Is(cause, reason), "the context ended with the cause %q instead of that of the subscription", cause)
	h.nack(msg)
	in.end("its last message was settled")
	h.ack(connect(h, PeerConfig{}).subscribe(topic).expect("a"))
}

func nackWhileDraining(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in, stop, end := subscribeAsConsumer(p, topic, 1)
	defer end(nil)
	p.publish(topic, "a")
	msg := in.receive()
	stop()
	h.nack(msg)
	in.end("its last message was settled")
	h.ack(connect(h, PeerConfig{}).subscribe(topic).expect("a"))
}

func consumerGetsWhatItCanHandle(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in, stop, end := subscribeAsConsumer(p, topic, 2)
	defer end(nil)
	p.publish(topic, numbered(10)...)
	first, second := in.receive(), in.receive()
	in.none(quietPeriod, "its consumer has as many messages as it handles at a time")
	h.ack(first)
	third := in.receive()
	h.ack(second)
	h.ack(third)
	stop()
	in.end("all were settled")
}

func parkedMakesRoom(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in, stop, end := subscribeAsConsumer(p, topic, 1)
	defer end(nil)
	p.publish(topic, "0", "1")
	first := in.receive()
	backend.Park(first.Context(), true)
	h.ack(in.receive())
	backend.Park(first.Context(), false)
	h.ack(first)
	stop()
	in.end("all were settled")
}
