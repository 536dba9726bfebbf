package conformance

import (
	"context"
	"sync"
)

func lifecycle() []Case {
	return theme("lifecycle",
		promise("Close closes the channels",
			"When Close returns, the channels of the subscriber are closed.",
			0, closeClosesChannels),
		promise("Close may be called again",
			"Close may be called several times, also at once, and with messages that are not received.",
			0, closeMayBeRepeated),
		promise("a closed subscriber refuses",
			"Subscribe fails after Close.",
			0, closedSubscriberRefuses),
		promise("a closed publisher does not pretend",
			"Publish after Close returns an error, or the message arrives all the same.",
			0, closedPublisherDoesNotPretend),
		promise("the end of its context ends a subscription",
			"When the context of a subscription ends its channel is closed; the subscriber, and other subscriptions, go on.",
			0, contextEndsSubscription),
		promise("nothing runs on",
			"Peers that are opened, used and closed again and again leave no goroutine behind.",
			0, nothingRunsOn),
	)
}

func closeClosesChannels(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	one, two := p.subscribe(topic), p.subscribe(h.topic())
	p.publish(topic, "a")
	h.ack(one.expect("a"))
	p.mustClose()
	h.require(one.isClosed() && two.isClosed(), "Close returned, and a channel was still open")
}

func closeMayBeRepeated(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.publish(topic, numbered(20)...) // which are not received
	var closing sync.WaitGroup
	for range 5 {
		closing.Go(func() {
			if err := h.call("Close", p.Subscriber.Close); err != nil {
				h.record("one of several Close at once: %v", err)
			}
		})
	}
	closing.Wait()
	in.end("Close")
	h.must("Close after Close", p.Subscriber.Close)
}

func closedSubscriberRefuses(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	p.mustClose()
	in.end("Close")
	err := h.call("Subscribe after Close", func() error {
		_, err := p.Subscriber.Subscribe(h.ctx, topic)
		return err
	})
	h.require(err != nil, "Subscribe after Close returned no error")
}

func closedPublisherDoesNotPretend(h *harness) {
	closed, other, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := other.subscribe(topic)
	closed.publish(topic, "before")
	h.ack(in.expect("before"))
	closed.mustClose()
	if closed.trySend(topic, h.message("after")) {
		h.ack(in.expect("after"))
	}
}

func contextEndsSubscription(h *harness) {
	p, topic, other := connect(h, PeerConfig{}), h.topic(), h.topic()
	ctx, stop := context.WithCancel(h.ctx)
	defer stop()
	ending, staying := p.subscribeWith(ctx, topic), p.subscribe(other)
	stop()
	ending.end("its context ended")
	p.publish(other, "a")
	h.ack(staying.expect("a"))
	again := p.subscribe(topic)
	p.publish(topic, "b")
	h.ack(again.expect("b"))
}

func nothingRunsOn(h *harness) {
	for range 5 {
		p, topic := connect(h, PeerConfig{}), h.topic()
		ctx, stop := context.WithCancel(h.ctx)
		in := p.subscribeWith(ctx, topic)
		p.publish(topic, numbered(5)...)
		in.ackAll(numbered(5)...)
		stop()
		in.end("its context ended")
		p.subscribe(h.topic())
		p.mustClose()
	} // and then, as after every case, no goroutine may be left
}
