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
	// Number counts the deliveries of this message, from 1, without those that ended with
	// [Release], or with a [Redelivery] that is Uncounted. 0 means that the backend does
	// not count.
	Number int

	// Failures is what the last [Nack] recorded: how often handling has failed.
	// Deliveries that ended in a shutdown, a crash or a lost lease are not in it.
	Failures int

	// Done is what the last [Nack] recorded: the names of the handlers, of several
	// for one message, that have succeeded and need not run again.
	Done []string

	// UnknownSince is what the last [Nack] recorded: since when consumers release the
	// message because none of them knows what it is. Otherwise it is the zero Time.
	UnknownSince time.Time

	// PublishedAt is when the message was stored, by the clock of the backend.
	// It is the zero Time if the backend does not know.
	PublishedAt time.Time

	// DeadLetters says that the backend promises DeadLetter.
	DeadLetters bool

	// Progress says that the backend promises Progress: Failures is what it is said
	// to be, and not merely zero.
	Progress bool

	// Parker, if the backend sets it, is told with [Park] that the consumer
	// has put the message aside.
	Parker Parker

	// Receipt is what the backend itself needs to recognize the delivery.
	Receipt any

	disposition atomic.Pointer[Disposition]
}

// Copy returns what is known about the delivery, with a disposition of its own. It is for
// decorators that hand over a message in place of another one.
func (d *Delivery) Copy() *Delivery {
	return &Delivery{
		Number: d.Number, Failures: d.Failures, Done: d.Done, UnknownSince: d.UnknownSince, PublishedAt: d.PublishedAt,
		DeadLetters: d.DeadLetters, Progress: d.Progress, Parker: d.Parker, Receipt: d.Receipt,
	}
}

// Disposition is what becomes of a message that was not acked: either of the two.
type Disposition struct {
	Redelivery
	DeadLetter *DeadLetterTarget
}

// Redelivery says how a nacked message shall come back.
type Redelivery struct {
	// Delay is how long the message stays invisible. 0 means at once.
	Delay time.Duration

	// InPlace asks for the message to keep its place: with a Delay of 0 it goes back
	// before what was published after it, and otherwise behind all that is visible.
	InPlace bool

	// Uncounted asks for the delivery not to count: [Delivery].Number is the same next
	// time.
	Uncounted bool

	// Failures, Done and UnknownSince replace those of [Delivery].
	Failures     int
	Done         []string
	UnknownSince time.Time
}

// DeadLetterTarget says where a dead letter is stored.
type DeadLetterTarget struct {
	// Topic is where the message is stored instead.
	Topic string

	// Metadata is added to the message's own.
	Metadata message.Metadata
}

type deliveryKey struct{}

// WithDelivery returns a context that carries d.
func WithDelivery(ctx context.Context, d *Delivery) context.Context {
	return context.WithValue(ctx, deliveryKey{}, d)
}

// DeliveryFromContext returns the delivery that ctx, the context of a received
// message, belongs to. It is nil if the backend does not say.
func DeliveryFromContext(ctx context.Context) *Delivery {
	d, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return d
}

type sharedKey struct{}

// WithShared returns a context for a handler that does not decide about its message
// alone: the message has other handlers, or the handler has other messages.
func WithShared(ctx context.Context) context.Context {
	return context.WithValue(ctx, sharedKey{}, true)
}

// Shared reports whether ctx comes from [WithShared]. Code that settles a message
// on its own, such as a transaction around its handler, must not do so there.
func Shared(ctx context.Context) bool { return ctx.Value(sharedKey{}) != nil }

// Nack returns msg to its backend, which redelivers it as r says if it promises
// Redelay and Progress, or else in its own way. InPlace and Uncounted are requests,
// which a backend that has no such thing ignores. Like [message.Message.Nack] it
// returns false if msg has been acked. The first of several nacks counts.
func Nack(msg *message.Message, r Redelivery) bool {
	if d := DeliveryFromContext(msg.Context()); d != nil && !settled(msg) {
		d.disposition.CompareAndSwap(nil, &Disposition{Redelivery: r})
	}
	return msg.Nack()
}

// Release returns msg to its backend as if it had not been delivered: nothing is
// counted, nothing is recorded, and the message keeps its place. It is for messages
// that no handler has begun with. A backend that does not know about that
// redelivers the message as after any other nack. Release returns what [Nack] does.
func Release(msg *message.Message) bool {
	r := Redelivery{InPlace: true, Uncounted: true}
	if d := DeliveryFromContext(msg.Context()); d != nil {
		r.Failures, r.Done, r.UnknownSince = d.Failures, d.Done, d.UnknownSince
	}
	return Nack(msg, r)
}

// DeadLetter gives msg up: a backend that promises DeadLetter moves it to the
// topic of letter, in one step and only if the lease is still valid. Its id stays
// the same, its failures start anew. DeadLetter returns false, and does nothing,
// if msg has been acked or nacked, or if its backend does not promise that.
func DeadLetter(msg *message.Message, letter DeadLetterTarget) bool {
	d := DeliveryFromContext(msg.Context())
	return d != nil && d.DeadLetters && !settled(msg) &&
		d.disposition.CompareAndSwap(nil, &Disposition{DeadLetter: &letter}) && msg.Nack()
}

// settled reports whether msg has been acked or nacked, also without a disposition. One that
// is given later would be seen by a backend that has not looked yet, and not by another.
func settled(msg *message.Message) bool {
	select {
	case <-msg.Acked():
		return true
	case <-msg.Nacked():
		return true
	default:
		return false
	}
}

// Parker is told when a consumer parks a message, and when the message goes on.
type Parker interface {
	// Park says whether the message waits with the consumer without a slot. As long as
	// it does, it does not count against [Consumer].Concurrency.
	Park(parked bool)
}

// Park tells the backend of the message that ctx belongs to whether its consumer has
// parked it, and so has capacity for another message. A backend that limits how many
// it hands over then hands over that one; other backends ignore it. The lease of a
// parked message is renewed like any other.
func Park(ctx context.Context, parked bool) {
	if d := DeliveryFromContext(ctx); d != nil && d.Parker != nil {
		d.Parker.Park(parked)
	}
}

// Disposition returns what [Nack] or [DeadLetter] asked for. Backends call it once
// the message has been nacked; ok is false if that was done with the message's
// own Nack.
func (d *Delivery) Disposition() (v Disposition, ok bool) {
	p := d.disposition.Load()
	if p == nil {
		return Disposition{}, false
	}
	return *p, true
}
