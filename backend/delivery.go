package backend

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Delivery is what a backend knows about one delivery of a message. Backends
// put it in the message's context with [WithDelivery].
type Delivery struct {
	// Number counts the deliveries of this message, from 1. A delivery counts
	// however it ended. 0 means that the backend does not count.
	Number int

	// Failures is what the last [Nack] recorded: how often handling has failed.
	// Deliveries that ended in a shutdown, a crash or a lost lease are not in it.
	Failures int

	// PublishedAt is when the message was stored, by the clock of the backend.
	// It is the zero Time if the backend does not know.
	PublishedAt time.Time

	redelivery atomic.Pointer[Redelivery]
}

// Redelivery says how a nacked message shall come back.
type Redelivery struct {
	// Delay is how long the message stays invisible. 0 means at once.
	Delay time.Duration

	// Failures replaces [Delivery.Failures].
	Failures int
}

type deliveryKey struct{}

// WithDelivery returns a context that carries d.
func WithDelivery(ctx context.Context, d *Delivery) context.Context {
	return context.WithValue(ctx, deliveryKey{}, d)
}

// DeliveryFrom returns the delivery that ctx, the context of a received
// message, belongs to. It is nil if the backend does not say.
func DeliveryFrom(ctx context.Context) *Delivery {
	d, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return d
}

// Nack returns msg to its backend, which redelivers it as r says if it promises
// Redelay and Progress, or else in its own way. Like [message.Message.Nack] it
// returns false if msg has been acked. The first of several nacks counts.
func Nack(msg *message.Message, r Redelivery) bool {
	if d := DeliveryFrom(msg.Context()); d != nil {
		d.redelivery.CompareAndSwap(nil, &r)
	}
	return msg.Nack()
}

// Redelivery returns what [Nack] asked for. Backends call it once the message
// has been nacked; ok is false if that was done with the message's own Nack.
func (d *Delivery) Redelivery() (r Redelivery, ok bool) {
	p := d.redelivery.Load()
	if p == nil {
		return Redelivery{}, false
	}
	return *p, true
}
