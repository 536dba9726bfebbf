package ezq

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func attachedHandlerName(topic string) string { return "ezq " + topic }

// attachedTopic is the subscriber and the handler of one topic in a Watermill router.
type attachedTopic struct {
	topicRun *topicRun
	out      chan *message.Message // to the Watermill router
}

func newAttachedTopic(rn *run, tp *topic) *attachedTopic {
	a := &attachedTopic{out: make(chan *message.Message)}
	a.topicRun = &topicRun{run: rn, topic: tp, handle: a.handle}
	return a
}

// Subscribe subscribes on behalf of the Watermill router, whose end stops this
// router without ending the contexts of its events at once.
func (a *attachedTopic) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	rn := a.topicRun.run
	rn.attachOnce.Do(func() { go rn.finishAttached() })
	if !rn.tryAdd(&rn.consumers) {
		close(a.out)
		return a.out, nil
	}
	context.AfterFunc(ctx, a.stop)
	if paused, _ := a.topicRun.topic.pause.state(); !paused {
		if err := a.topicRun.open(); err != nil {
			rn.consumers.Done()
			return nil, err
		}
	}
	go func() {
		defer rn.consumers.Done()
		a.topicRun.serve()
	}()
	go func() {
		<-rn.attachedEnded
		close(a.out)
	}()
	return a.out, nil
}

// Close implements [message.Subscriber]: the Watermill router closes.
func (a *attachedTopic) Close() error {
	a.stop()
	return nil
}

func (a *attachedTopic) stop() { a.topicRun.run.fail(nil) }

// handle handles d as soon as its message has passed through the Watermill router. It
// gets there when it is the turn of its key: a middleware that lets that many through at a
// time would otherwise let in those that wait, and not the one that they wait for.
func (a *attachedTopic) handle(d *delivery) {
	d.ctx = d.msg.Context()
	if !d.awaitKey() {
		d.abandon()
		return
	}
	life, slots := d.consumer.life, d.topic.slots
	if life.starting.Err() != nil || interrupted(d.ctx) { // while it waited
		d.endWithout(released)
		slots.free()
		return
	}
	p := newRoundTrip(d)
	defer close(p.settled)
	select {
	case a.out <- p.copy:
	case <-life.starting.Done():
	}
	if msg, outcome := p.await(); msg == nil {
		p.endWithout(outcome)
	} else if d.adopt(msg); p.hasSlot || p.endSlotWait(slots.reacquire(life.starting.Done(), nil)) {
		d.handle()
	} else {
		d.abandon()
	}
}

var errContextReplaced = errors.New("ezq: Attach: a middleware of the Watermill router has replaced the context of the message, " +
	"without which its event is not known: keep the values of the context, and copy messages with CopyWithContext")

// receive is the handler in the Watermill router.
func (a *attachedTopic) receive(msg *message.Message) error {
	p, ok := msg.Context().Value(roundTripKey{}).(*roundTrip)
	if !ok {
		return errContextReplaced
	}
	select {
	case p.arrived <- msg:
		<-p.settled
	case <-p.settled:
		if p.acked {
			a.handleAcked(p.delivery, msg)
		}
	}
	return nil
}

// handleAcked handles d, whose message a middleware has acked before it passed on msg.
func (a *attachedTopic) handleAcked(d *delivery, msg *message.Message) {
	rn := a.topicRun.run
	if !rn.tryAdd(&rn.handlers) {
		return
	}
	defer rn.handlers.Done()
	if !d.topic.slots.reacquire(d.starting(), nil) {
		return
	}
	again := newDelivery(d.consumer, d.msg, d.routes, d.event, d.ticket)
	again.adopt(msg)
	again.handle()
}

// roundTrip is the way of a delivery through the middleware of the Watermill router. A copy
// of the message goes through it, so that the middleware settles nothing but the copy.
type roundTrip struct {
	delivery *delivery
	copy     *message.Message
	arrived  chan *message.Message // what has come through of the copy
	settled  chan struct{}         // closed when the delivery is settled
	acked    bool                  // by middleware, before the copy arrived

	hasSlot    bool
	endWaiting func() // ends its waiting for a slot
}

type roundTripKey struct{}

func newRoundTrip(d *delivery) *roundTrip {
	p := &roundTrip{delivery: d, arrived: make(chan *message.Message), settled: make(chan struct{}), hasSlot: true}
	p.copy = d.msg.CopyWithContext()
	p.copy.SetContext(context.WithValue(d.ctx, roundTripKey{}, p))
	return p
}

// await returns what has come through of the copy, or nil and the outcome of the event
// without it.
//
// A delivery that has come through before may have given up its slot, and need one
// before it lets this one through. So it gets this one's.
func (p *roundTrip) await() (*message.Message, outcome) {
	d, slots := p.delivery, p.delivery.topic.slots
	for {
		var lend <-chan struct{}
		var free, fromConsumer chan<- struct{}
		if p.hasSlot {
			lend = slots.fromWatermill
		} else {
			free, fromConsumer = slots.inUse, slots.fromConsumer
		}
		select {
		case msg := <-p.arrived:
			return msg, succeeded
		case <-p.copy.Acked():
			p.acked = true
			d.msg.Ack()
			return nil, succeeded
		case <-p.copy.Nacked():
			d.msg.Nack()
			return nil, failed
		case <-d.starting():
			return nil, released
		case <-lend:
			p.lendSlot()
		case free <- struct{}{}:
			p.endSlotWait(true)
		case fromConsumer <- struct{}{}:
			p.endSlotWait(true)
		}
	}
}

// lendSlot notes that another event has got the slot of this one.
func (p *roundTrip) lendSlot() {
	p.hasSlot, p.endWaiting = false, p.delivery.topic.slots.countWaiting(1)
	backend.Park(p.delivery.ctx, true)
}

// endSlotWait ends the waiting for a slot, with one if hasSlot, which it returns.
func (p *roundTrip) endSlotWait(hasSlot bool) bool {
	p.endWaiting()
	if p.hasSlot = hasSlot; hasSlot {
		backend.Park(p.delivery.ctx, false)
	}
	return hasSlot
}

// endWithout ends the delivery without calling handlers.
func (p *roundTrip) endWithout(outcome outcome) {
	p.delivery.endWithout(outcome)
	if p.hasSlot {
		p.delivery.topic.slots.free()
	} else {
		p.endWaiting()
	}
}
