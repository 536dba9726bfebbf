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

	// PublishedTo is the topic that the message was published to, if the subscription is to a pattern: see
	// [MatchesPattern]. It is "" for any other, and if the message does not say it, since another program has stored it.
	PublishedTo string

	// DeadLetters says that the backend promises DeadLetter.
	DeadLetters bool

	// Progress says that the backend promises Progress: Failures is what it is said
	// to be, and not merely zero.
	Progress bool

	// Parker, if the backend sets it, is told with [Park] that the consumer
	// has parked the message.
	Parker Parker

	// Receipt is what the backend itself needs to recognize the delivery.
	Receipt any

	disposition atomic.Pointer[Disposition]
}

// Unchanged returns the redelivery that records nothing new: Failures, Done and UnknownSince
// are what they were before this delivery. Middleware that nacks a message which has not
// failed begins with it, so as not to lose them. d may be nil.
func (d *Delivery) Unchanged() Redelivery {
	if d == nil {
		return Redelivery{}
	}
	return Redelivery{Failures: d.Failures, Done: d.Done, UnknownSince: d.UnknownSince}
}

// Disposition is what becomes of a message that was nacked.
type Disposition struct {
	// Target, of a message that has failed for good, is where it is stored as a dead letter. If it
	// is nil, the message comes back.
	Target *DeadLetterTarget

	// Fallback says how the message comes back: if Target is nil, or if the dead letter
	// cannot be stored. [DeadLetter] leaves it zero, and the backend decides.
	Fallback Redelivery
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

type exclusiveKey struct{}

// WithExclusive returns a context for a handler that decides about its message alone, or
// does not: the message has other handlers, or the handler has other messages.
func WithExclusive(ctx context.Context, exclusive bool) context.Context {
	return context.WithValue(ctx, exclusiveKey{}, exclusive)
}

// ExclusiveFromContext reports whether the handler that ctx is for decides about its message alone,
// as [WithExclusive] says; without that it does. Where it does not, code that settles a
// message on its own, such as a transaction around its handler, must not do so.
func ExclusiveFromContext(ctx context.Context) bool {
	exclusive, ok := ctx.Value(exclusiveKey{}).(bool)
	return exclusive || !ok
}

// Nack returns msg to its backend, which redelivers it as r says if it promises
// Redelay and Progress, or else in its own way. InPlace and Uncounted are requests,
// which a backend that has no such thing ignores. Like [message.Message.Nack] it
// returns false if msg has been acked. The first of several nacks counts.
func Nack(msg *message.Message, r Redelivery) bool {
	if d := DeliveryFromContext(msg.Context()); d != nil && !settled(msg) {
		d.disposition.CompareAndSwap(nil, &Disposition{Fallback: r})
	}
	return msg.Nack()
}

// Release returns msg to its backend as if it had not been delivered: nothing is
// counted, nothing is recorded, and the message keeps its place. It is for messages
// that no handler has begun with. A backend that does not know about that
// redelivers the message as after any other nack. Release returns what [Nack] does.
func Release(msg *message.Message) bool {
	r := DeliveryFromContext(msg.Context()).Unchanged()
	r.InPlace, r.Uncounted = true, true
	return Nack(msg, r)
}

// DeadLetter gives msg up: a backend that promises DeadLetter moves it to the
// topic of target, in one step and only if the lease is still valid. Its id stays
// the same, its failures start anew. DeadLetter returns false, and does nothing,
// if msg has been acked or nacked, or if its backend does not promise that.
func DeadLetter(msg *message.Message, target DeadLetterTarget) bool {
	d := DeliveryFromContext(msg.Context())
	return d != nil && d.DeadLetters && !settled(msg) &&
		d.disposition.CompareAndSwap(nil, &Disposition{Target: &target}) && msg.Nack()
}

// Nacked reports whether msg was nacked, and so released or dead-lettered. Middleware asks
// that when its handler has returned no error: a handler that was interrupted, and one whose
// message was dead-lettered, return none.
func Nacked(msg *message.Message) bool {
	select {
	case <-msg.Nacked():
		return true
	default:
		return false
	}
}

// settled reports whether msg has been acked or nacked, also without a disposition. One that
// is given later would be seen by a backend that has not looked yet, and not by another.
func settled(msg *message.Message) bool {
	select {
	case <-msg.Acked():
		return true
	default:
		return Nacked(msg)
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
// parked message is extended like any other.
func Park(ctx context.Context, parked bool) {
	if d := DeliveryFromContext(ctx); d != nil && d.Parker != nil {
		d.Parker.Park(parked)
	}
}

// Disposition returns what [Nack] or [DeadLetter] asked for. Backends call it once
// the message has been nacked; ok is false if that was done with the message's
// own Nack.
func (d *Delivery) Disposition() (disposition Disposition, ok bool) {
	p := d.disposition.Load()
	if p == nil {
		return Disposition{}, false
	}
	return *p, true
}
