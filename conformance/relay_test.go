package conformance_test

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/deliverycopy"
)

// interception is the faults for which messages are handed over as copies. What they
// call is called by the goroutines of one subscription.
type interception struct {
	// relayed is no fault: messages are handed over as copies, and that is all.
	relayed bool

	// deliver is called before a message is handed over. It may change the copy, or
	// return false, having settled the message itself.
	deliver func(*delivery) bool

	// ack and settle are called instead of passing on an ack, or what else becomes
	// of a message.
	ack    func(*delivery)
	settle func(*delivery, backend.Disposition)

	// lost is called when the context of a message has ended because its lease was lost.
	lost func(*delivery)

	// unreceived is called instead of releasing a message that was not received.
	unreceived func(*delivery)
}

func (i interception) isEmpty() bool {
	return !i.relayed && i.deliver == nil && i.ack == nil && i.settle == nil && i.lost == nil && i.unreceived == nil
}

// relay hands over copies of the messages of a subscription.
type relay struct {
	*process
	ctx         context.Context // of the subscription
	topic       string
	stopping    <-chan struct{} // of the consumer
	messages    <-chan *message.Message
	out         chan *message.Message
	deliveries  sync.WaitGroup // of messages that were handed over
	sourceEnded chan struct{}  // closed when the subscription beneath is over
	ended       chan struct{}
}

func newRelay(ctx context.Context, p *process, topic string, messages <-chan *message.Message) *relay {
	return &relay{
		process: p, ctx: ctx, topic: topic, stopping: backend.ConsumerFromContext(ctx).Stopping,
		messages: messages, out: make(chan *message.Message), sourceEnded: make(chan struct{}), ended: make(chan struct{}),
	}
}

func (r *relay) run() {
	defer close(r.ended)
	defer close(r.out)
	defer r.deliveries.Wait()
	defer close(r.sourceEnded)
	for msg := range r.messages {
		d := newDelivery(r, msg)
		if f := r.fault.deliver; f != nil && !f(d) {
			continue
		}
		if d.handOver() {
			r.deliveries.Go(d.watch)
		}
	}
}

// delivery is a message that stands for another one.
type delivery struct {
	*relay
	msg    *message.Message // of the subscription beneath
	handed *message.Message // what the consumer gets
	info   *backend.Delivery
	done   chan struct{} // closed when it is settled, or the subscription is over
}

func newDelivery(r *relay, msg *message.Message) *delivery {
	d := &delivery{
		relay: r, msg: msg, handed: msg.Copy(),
		info: deliverycopy.Of(backend.DeliveryFromContext(msg.Context())), done: make(chan struct{}),
	}
	d.handed.SetContext(backend.WithDelivery(msg.Context(), d.info))
	if topic := d.handed.Metadata.Get(topicHeader); topic != "" {
		d.info.PublishedTo = topic
		delete(d.handed.Metadata, topicHeader)
	}
	return d
}

// handOver reports whether the consumer has received the message. It is released if not.
func (d *delivery) handOver() bool {
	if d.offer(d.out) {
		return true
	}
	close(d.done)
	if f := d.fault.unreceived; f != nil {
		f(d)
	} else {
		d.release()
	}
	return false
}

// offer sends the copy, and reports whether it was received before the subscription
// ended, or the lease.
func (d *delivery) offer(to chan<- *message.Message) bool {
	select {
	case <-d.stopping: // a consumer that has stopped may still receive
		return false
	default:
	}
	select {
	case to <- d.handed:
		return true
	case <-d.stopping:
	case <-d.ctx.Done():
	case <-d.closing:
	case <-d.msg.Context().Done():
	}
	return false
}

// acquire waits for a place in a slot, and reports whether there was one before the
// subscription ended. The place is free again when the message is settled.
func (d *delivery) acquire(slot chan struct{}) bool {
	select {
	case slot <- struct{}{}:
		d.deliveries.Go(func() {
			<-d.done
			<-slot
		})
		return true
	case <-d.stopping:
	case <-d.ctx.Done():
	case <-d.closing:
	}
	d.release()
	return false
}

// watch passes on what becomes of the copy.
func (d *delivery) watch() {
	defer close(d.done)
	var lost <-chan struct{}
	if d.fault.lost != nil {
		lost = d.msg.Context().Done()
	}
	for {
		select {
		case <-lost:
			if lost = nil; d.leaseLost() {
				d.fault.lost(d)
			}
			continue
		case <-d.handed.Acked():
			if f := d.fault.ack; f != nil {
				f(d)
			} else {
				d.msg.Ack()
			}
		case <-d.handed.Nacked():
			if f := d.fault.settle; f != nil {
				f(d, d.disposition())
			} else {
				d.settleAs(d.disposition())
			}
		case <-d.sourceEnded:
		}
		return
	}
}

// disposition is what became of the copy when it was nacked.
func (d *delivery) disposition() backend.Disposition {
	v, ok := d.info.Disposition()
	if !ok {
		v.Fallback = backend.Redelivery{Failures: d.info.Failures + 1, Done: d.info.Done}
	}
	return v
}

// settleAs settles the message.
func (d *delivery) settleAs(v backend.Disposition) {
	if v.Target != nil {
		backend.DeadLetter(d.msg, *v.Target)
		return
	}
	backend.Nack(d.msg, v.Fallback)
}

// release releases the message as it was.
func (d *delivery) release() {
	backend.Release(d.msg)
}

func (d *delivery) leaseLost() bool {
	return errors.Is(context.Cause(d.msg.Context()), backend.ErrLeaseLost)
}

// awaitEnd waits until the subscription is to end.
func (d *delivery) awaitEnd() {
	select {
	case <-d.stopping:
	case <-d.ctx.Done():
	case <-d.closing:
	case <-d.sourceEnded:
	}
}

// requireUnmarked reports whether a mark has not been set. Where it has, the message is kept until
// the subscription ends, and released.
func (d *delivery) requireUnmarked(mark string) bool {
	if d.count(mark) == 0 {
		return true
	}
	d.awaitEnd()
	d.release()
	return false
}
