package conformance_test

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// interposing is the flaws for which messages are handed over as copies. What they
// call is called by the goroutines of one subscription.
type interposing struct {
	// relayed is no flaw: messages are handed over as copies, and that is all.
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

	// unreceived is called instead of giving a message back that nobody has received.
	unreceived func(*delivery)
}

func (i interposing) none() bool {
	return !i.relayed && i.deliver == nil && i.ack == nil && i.settle == nil && i.lost == nil && i.unreceived == nil
}

// relay hands over copies of the messages of a subscription.
type relay struct {
	*process
	ctx      context.Context // of the subscription
	topic    string
	stopping <-chan struct{} // of the consumer
	messages <-chan *message.Message
	out      chan *message.Message
	tasks    sync.WaitGroup // of messages that were handed over
	over     chan struct{}  // closed when the subscription beneath is over
	ended    chan struct{}
}

func newRelay(ctx context.Context, p *process, topic string, messages <-chan *message.Message) *relay {
	return &relay{
		process: p, ctx: ctx, topic: topic, stopping: backend.ConsumerFromContext(ctx).Stopping,
		messages: messages, out: make(chan *message.Message), over: make(chan struct{}), ended: make(chan struct{}),
	}
}

func (r *relay) run() {
	defer close(r.ended)
	defer close(r.out)
	defer r.tasks.Wait()
	defer close(r.over)
	for msg := range r.messages {
		d := newDelivery(r, msg)
		if f := r.flaw.deliver; f != nil && !f(d) {
			continue
		}
		if d.hand() {
			r.tasks.Go(d.watch)
		}
	}
}

// delivery is a message that stands for another one.
type delivery struct {
	*relay
	msg   *message.Message // of the subscription beneath
	given *message.Message // what the consumer gets
	told  *backend.Delivery
	done  chan struct{} // closed when it is settled, or the subscription is over
}

func newDelivery(r *relay, msg *message.Message) *delivery {
	d := &delivery{
		relay: r, msg: msg, given: msg.Copy(),
		told: backend.DeliveryFromContext(msg.Context()).Copy(), done: make(chan struct{}),
	}
	d.given.SetContext(backend.WithDelivery(msg.Context(), d.told))
	return d
}

// hand reports whether the consumer has received the message. It is given back if not.
func (d *delivery) hand() bool {
	if d.offer(d.out) {
		return true
	}
	close(d.done)
	if f := d.flaw.unreceived; f != nil {
		f(d)
	} else {
		d.back()
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
	case to <- d.given:
		return true
	case <-d.stopping:
	case <-d.ctx.Done():
	case <-d.closing:
	case <-d.msg.Context().Done():
	}
	return false
}

// takes waits for a place in a slot, and reports whether there was one before the
// subscription ended. The place is free again when the message is settled.
func (d *delivery) takes(slot chan struct{}) bool {
	select {
	case slot <- struct{}{}:
		d.tasks.Go(func() {
			<-d.done
			<-slot
		})
		return true
	case <-d.stopping:
	case <-d.ctx.Done():
	case <-d.closing:
	}
	d.back()
	return false
}

// watch passes on what becomes of the copy.
func (d *delivery) watch() {
	defer close(d.done)
	var lost <-chan struct{}
	if d.flaw.lost != nil {
		lost = d.msg.Context().Done()
	}
	for {
		select {
		case <-lost:
			if lost = nil; d.leaseLost() {
				d.flaw.lost(d)
			}
			continue
		case <-d.given.Acked():
			if f := d.flaw.ack; f != nil {
				f(d)
			} else {
				d.msg.Ack()
			}
		case <-d.given.Nacked():
			if f := d.flaw.settle; f != nil {
				f(d, d.verdict())
			} else {
				d.as(d.verdict())
			}
		case <-d.over:
		}
		return
	}
}

// verdict is what became of the copy when it was nacked.
func (d *delivery) verdict() backend.Disposition {
	v, ok := d.told.Disposition()
	if !ok {
		v.Redelivery = backend.Redelivery{Failures: d.told.Failures + 1, Done: d.told.Done}
	}
	return v
}

// as settles the message.
func (d *delivery) as(v backend.Disposition) {
	if v.Letter != nil {
		backend.DeadLetter(d.msg, *v.Letter)
		return
	}
	backend.Nack(d.msg, v.Redelivery)
}

// back gives the message back as it was.
func (d *delivery) back() {
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
	case <-d.over:
	}
}

// passes reports whether a mark has not been set. Where it has, the message is kept until
// the subscription ends, and given back.
func (d *delivery) passes(mark string) bool {
	if d.marked(mark) == 0 {
		return true
	}
	d.awaitEnd()
	d.back()
	return false
}
