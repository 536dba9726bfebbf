package ezqtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// delivery is one delivery of a message, from the backend to the router.
type delivery struct {
	facts  *backend.Delivery // nil if the backend does not say
	fault  atomic.Int32
	begun  atomic.Bool
	expire context.CancelCauseFunc

	noting sync.WaitGroup // handlers whose end is not noted yet
	left   sync.Map       // the names of handlers that did not return
}

type deliveryKey struct{}

func deliveryFrom(ctx context.Context) *delivery {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	return d
}

// deliver returns the message that the router gets in place of msg. What becomes of
// it is passed on, unless a fault says otherwise.
func (q *queue) deliver(topic string, msg *message.Message) *message.Message {
	ctx, expire := context.WithCancelCause(msg.Context())
	d := &delivery{expire: expire}
	ctx = context.WithValue(ctx, deliveryKey{}, d)
	if facts := backend.DeliveryFrom(ctx); facts != nil {
		d.facts = facts.Copy()
		ctx = backend.WithDelivery(ctx, d.facts)
	}
	handed := msg.Copy()
	handed.SetContext(ctx)
	var w *waiting
	q.change(func() { w = q.take(topic, msg) })
	go func() {
		defer expire(nil)
		acked := false
		select {
		case <-handed.Acked():
			acked = true
		case <-handed.Nacked():
		}
		d.noting.Wait() // an interrupted handler's event goes back before that is noted
		q.settle(d, w, msg, acked)
	}()
	return handed
}

// settle tells the backend what became of a delivery, after it has been noted: the
// message may come again at once.
func (q *queue) settle(d *delivery, w *waiting, msg *message.Message, acked bool) {
	var verdict backend.Verdict
	said := false
	if d.facts != nil {
		verdict, said = d.facts.Verdict()
	}
	switch {
	case d.committed():
		q.change(func() { q.remove(w) })
		msg.Ack()
	case fault(d.fault.Load()) != none: // the outcome is lost
		q.change(func() { w.handled, w.visible = false, time.Time{} })
		backend.Nack(msg, unchanged(msg.Context()))
	case acked:
		q.change(func() { q.remove(w) })
		msg.Ack()
	case verdict.Letter != nil:
		q.change(func() {
			q.note(deadLettered, verdict.Letter.Topic, msg, verdict.Letter.Metadata[backend.DeadLetterReason])
			w.topic, w.handled, w.visible = verdict.Letter.Topic, false, time.Time{}
			q.known[place{w.topic, w.id}] = true
		})
		backend.DeadLetter(msg, *verdict.Letter)
	case said:
		q.change(func() { w.handled, w.visible = false, time.Now().Add(verdict.Delay) })
		backend.Nack(msg, verdict.Redelivery)
	default:
		q.change(func() { w.handled, w.visible = false, time.Time{} })
		msg.Nack()
	}
}

// committed reports whether the handler has removed the message in its transaction,
// as with pgmq's InTx. No fault can bring it back then.
func (d *delivery) committed() bool {
	if d.facts == nil {
		return false
	}
	receipt, ok := d.facts.Receipt.(interface{ Committed() bool })
	return ok && receipt.Committed()
}

func (q *queue) remove(w *waiting) {
	q.waiting = slices.DeleteFunc(q.waiting, func(other *waiting) bool { return other == w })
}

func unchanged(ctx context.Context) (r backend.Redelivery) {
	if facts := backend.DeliveryFrom(ctx); facts != nil {
		r.Failures, r.Done = facts.Failures, facts.Done
	}
	return r
}

// watch is middleware that notes what handlers do, and lets them meet their faults.
func (q *queue) watch(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (out []*message.Message, err error) {
		d, meta := deliveryFrom(msg.Context()), ezq.MetaFrom(msg.Context())
		if d != nil {
			if _, left := d.left.LoadAndDelete(meta.Handler); left {
				return next(msg) // the router tells its middleware how it ended; that is noted
			}
			q.strike(d)
		}
		returned, unknown := false, false
		what, reason := failed, "the handler did not return"
		if d != nil {
			d.noting.Add(1)
		}
		defer func() { // deferred for panics and runtime.Goexit
			if d != nil && !returned {
				d.left.Store(meta.Handler, true)
			}
			q.change(func() {
				q.note(what, meta.Topic, msg, reason)
				if !unknown {
					q.called++
				}
			})
			if d != nil {
				d.noting.Done()
			}
		}()
		out, err = next(msg)
		returned = true
		unknown = errors.As(err, new(*ezq.UnknownEventError))
		what, reason = fate(msg, err)
		return out, err
	}
}

// fate says what a handler has made of msg, and why.
func fate(msg *message.Message, err error) (what, reason string) {
	if err != nil {
		if _, ok := ezq.SnoozeDelay(err); ok {
			return snoozed, err.Error()
		}
		return failed, err.Error()
	}
	select {
	case <-msg.Nacked():
	default:
		return handled, ""
	}
	if facts := backend.DeliveryFrom(msg.Context()); facts != nil {
		if verdict, _ := facts.Verdict(); verdict.Letter != nil {
			return failed, verdict.Letter.Metadata[backend.DeadLetterReason]
		}
	}
	return interrupted, ""
}

// strike gives the delivery its fault, if one is due.
func (q *queue) strike(d *delivery) {
	if !d.begun.CompareAndSwap(false, true) { // one of several handlers
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun++
	if len(q.faults) == 0 {
		return
	}
	d.fault.Store(int32(q.faults[0]))
	if q.faults[0] == lease {
		d.expire(backend.ErrLeaseLost)
	}
	q.faults = q.faults[1:]
}
