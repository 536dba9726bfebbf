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
			"Close may be called several times, also at once, and with messages that nobody receives.",
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

func closeClosesChannels(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	one, two := p.subscribe(topic), p.subscribe(b.topic())
	p.publish(topic, "a")
	b.ack(one.expect("a"))
	p.mustClose()
	b.require(one.isClosed() && two.isClosed(), "Close returned, and a channel was still open")
}

func closeMayBeRepeated(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, numbered(20)...) // which nobody receives
	var closing sync.WaitGroup
	for range 5 {
		closing.Go(func() {
			if err := b.call("Close", p.Subscriber.Close); err != nil {
				b.record("one of several Close at once: %v", err)
			}
		})
	}
	closing.Wait()
	in.end("Close")
	b.must("Close after Close", p.Subscriber.Close)
}

func closedSubscriberRefuses(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.mustClose()
	in.end("Close")
	err := b.call("Subscribe after Close", func() error {
		_, err := p.Subscriber.Subscribe(b.ctx, topic)
		return err
	})
	b.require(err != nil, "Subscribe after Close returned no error")
}

func closedPublisherDoesNotPretend(b *bench) {
	closed, other, topic := b.connect(Options{}), b.connect(Options{}), b.topic()
	in := other.subscribe(topic)
	closed.publish(topic, "before")
	b.ack(in.expect("before"))
	closed.mustClose()
	if closed.trySend(topic, b.message("after")) {
		b.ack(in.expect("after"))
	}
}

func contextEndsSubscription(b *bench) {
	p, topic, other := b.connect(Options{}), b.topic(), b.topic()
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	ending, staying := p.subscribeWith(ctx, topic), p.subscribe(other)
	stop()
	ending.end("its context ended")
	p.publish(other, "a")
	b.ack(staying.expect("a"))
	again := p.subscribe(topic)
	p.publish(topic, "b")
	b.ack(again.expect("b"))
}

func nothingRunsOn(b *bench) {
	for range 5 {
		p, topic := b.connect(Options{}), b.topic()
		ctx, stop := context.WithCancel(b.ctx)
		in := p.subscribeWith(ctx, topic)
		p.publish(topic, numbered(5)...)
		in.ackAll(numbered(5)...)
		stop()
		in.end("its context ended")
		p.subscribe(b.topic())
		p.mustClose()
	} // and then, as after every case, no goroutine may be left
}
