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
			"The context of a message that nobody settles ends with Close.",
			0, closeEndsContexts),
		promise("Close loses nothing",
			"Of many messages, some acked and some in flight whenever a subscriber is closed, each arrives in the end, and none that was acked comes again.",
			needsDurable, closeLosesNothing),
		promise("the end of a context loses nothing",
			"Of many messages, some acked and some in flight whenever the context of a subscription ends, each arrives in the end.",
			needsDurable, deadlineLosesNothing),
		promise("what was not handed over goes back",
			"What a closed subscriber had fetched, and nobody received, arrives elsewhere without undue delay.",
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
		promise("what is put aside makes room",
			"A consumer that puts a message aside gets another one for it.",
			needsDrain, asideMakesRoom),
	)
}

func contextEndsWithMessage(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	msg := in.receive()
	b.require(!closedWithin(msg.Context().Done(), moment), "the context of a message ended before it was settled")
	b.ack(msg)
	b.awaitEnd(msg, "it was acked")
}

func closeEndsContexts(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	p.publish(topic, "a")
	msg := in.receive()
	closed := make(chan error, 1)
	go func() { closed <- p.close() }()
	b.awaitEnd(msg, "its subscriber was closed")
	msg.Nack()
	if err := <-closed; err != nil {
		b.fail("Close: %v", err)
	}
}

func closeLosesNothing(b *bench) {
	b.inRounds(func(_ context.CancelFunc, p *peer) { p.mustClose() })
}

func deadlineLosesNothing(b *bench) {
	b.inRounds(func(stop context.CancelFunc, _ *peer) { stop() })
}

// inRounds has subscriptions ended in the middle of their messages, until all have come.
func (b *bench) inRounds(end func(context.CancelFunc, *peer)) {
	topic, labels := b.topic(), numbered(40)
	first := b.connect(Options{})
	first.initialize(topic)
	first.publish(topic, labels...)
	missing := map[string]bool{}
	for _, label := range labels {
		missing[label] = true
	}
	for round := 0; len(missing) > 0; round++ {
		p := b.connect(Options{})
		ctx, stop := context.WithCancel(b.ctx)
		in := p.subscribeWith(ctx, topic)
		var unsettled []*message.Message
		for i := range min(12, len(missing)) {
			msg := in.within(b.untilNext(len(unsettled)))
			if msg == nil && len(unsettled) > 0 {
				break // it hands over no more before those are settled, as it may
			}
			if msg == nil {
				b.fail("%d of %d messages did not come within %v, among them %s", len(missing), len(labels), b.patience, anyOf(missing))
			}
			b.require(missing[b.label(msg)], "%q came again, although it was acked", b.label(msg))
			if i%4 == 3 && len(missing) > 4 {
				unsettled = append(unsettled, msg)
				continue
			}
			delete(missing, b.label(msg))
			b.ack(msg)
		}
		go func() { // as handlers do that are interrupted
			for _, msg := range unsettled {
				<-msg.Context().Done()
				msg.Nack()
			}
		}()
		if round%2 == 0 {
			time.Sleep(moment) // so that more has been fetched, where that is done ahead
		}
		end(stop, p)
		in.end("its subscription was ended")
		stop()
	}
}

// untilNext is how long to wait for a message while others are in flight.
func (b *bench) untilNext(inFlight int) time.Duration {
	if inFlight > 0 {
		return 2 * moment
	}
	return b.patience
}

func unreceivedGoesBack(b *bench) {
	topic := b.topic()
	first := b.connect(Options{})
	in := first.subscribe(topic)
	first.publish(topic, numbered(20)...)
	b.ack(in.receive())
	time.Sleep(moment) // so the others have been fetched, where that is done ahead
	start := time.Now()
	first.mustClose()
	second := b.connect(Options{}).subscribe(topic)
	for range 19 {
		b.ack(second.receive())
	}
	b.requireDelay(time.Since(start), 0)
}

// consumer subscribes as a consumer that says when it stops.
func (p *peer) consumer(topic string, concurrency int) (in *inbox, stop func(), end context.CancelCauseFunc) {
	stopping := make(chan struct{})
	ctx, end := context.WithCancelCause(p.b.ctx)
	ctx = backend.WithConsumer(ctx, backend.Consumer{Stopping: stopping, Concurrency: concurrency})
	return p.subscribeWith(ctx, topic), func() { close(stopping) }, end
}

func contextsLiveWhileDraining(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in, stop, end := p.consumer(topic, 2)
	defer end(nil)
	p.publish(topic, "0", "1")
	first, second := in.receive(), in.receive()
	stop()
	p.publish(topic, "late")
	b.requireQuiet(in, max(2*time.Second, 3*b.system.Lease))
	b.require(first.Context().Err() == nil && second.Context().Err() == nil,
		"the context of a message ended while its consumer was draining")
	b.ack(first)
	b.requireQuiet(in, moment)
	b.ack(second)
	in.end("the last message was settled")
	other := b.connect(Options{}).subscribe(topic)
	b.ack(other.expect("late"))
	other.none(moment+2*b.system.Lease, "it was acked while its consumer was draining")
}

// requireQuiet ends the case if a message comes in that time, or the channel is closed.
func (b *bench) requireQuiet(in *inbox, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case msg, open := <-in.messages:
		b.require(open, "the channel was closed before all messages were settled")
		msg.Nack()
		b.fail("%q came after Stopping", b.label(msg))
	case <-timer.C:
	}
}

func consumerDoesNotWait(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in, stop, end := p.consumer(topic, 1)
	p.publish(topic, "a")
	msg := in.receive()
	stop()
	reason := errors.New("out of patience")
	end(reason)
	b.awaitEnd(msg, "that of its subscription had")
	cause := context.Cause(msg.Context())
	b.require(errors.Is(cause, reason), "the context ended with the cause %q instead of that of the subscription", cause)
	b.nack(msg)
	in.end("its last message was settled")
	b.ack(b.connect(Options{}).subscribe(topic).expect("a"))
}

func nackWhileDraining(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in, stop, end := p.consumer(topic, 1)
	defer end(nil)
	p.publish(topic, "a")
	msg := in.receive()
	stop()
	b.nack(msg)
	in.end("its last message was settled")
	b.ack(b.connect(Options{}).subscribe(topic).expect("a"))
}

func consumerGetsWhatItCanHandle(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in, stop, end := p.consumer(topic, 2)
	defer end(nil)
	p.publish(topic, numbered(10)...)
	first, second := in.receive(), in.receive()
	in.none(moment, "its consumer has as many messages as it handles at a time")
	b.ack(first)
	third := in.receive()
	b.ack(second)
	b.ack(third)
	stop()
	in.end("all were settled")
}

func asideMakesRoom(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in, stop, end := p.consumer(topic, 1)
	defer end(nil)
	p.publish(topic, "0", "1")
	first := in.receive()
	backend.Park(first.Context(), true)
	b.ack(in.receive())
	backend.Park(first.Context(), false)
	b.ack(first)
	stop()
	in.end("all were settled")
}
