package backend

import (
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// A Backend publishes to and subscribes from named topics.
//
// The two halves keep Watermill's contract. Close releases both and may be
// called more than once, also concurrently.
type Backend interface {
	message.Publisher
	message.Subscriber

	// Features reports the promises this backend keeps. The answer must not
	// change during the life of the backend.
	Features() Features
}

// Features lists promises of Publish and Subscribe that differ between backends. The zero value
// promises nothing beyond at-least-once delivery: it is the value of every
// Watermill Pub/Sub that does not say otherwise.
type Features struct {
	// Delay: a message published with a delay is delivered no sooner.
	Delay bool

	// Redelay: a message nacked with a delay is redelivered no sooner.
	Redelay bool

	// Attempts: each delivery knows its number, counting from 1, without those that
	// ended with [Release], or with a [Redelivery] that is Uncounted.
	Attempts bool

	// Progress: what [Nack] has recorded, failures and handlers that are done, is
	// known to the next delivery.
	Progress bool

	// DeadLetter: [DeadLetter] moves a message to another topic in one step.
	DeadLetter bool

	// Ordered: one subscriber with one message in flight receives messages in
	// the order of their publishing, as long as none of them is nacked.
	Ordered bool

	// Lease: a message is with one consumer at a time. The lease is extended
	// while the message is being handled; if it is lost, the context of the
	// message ends with the cause [ErrLeaseLost], and a later ack or nack
	// changes nothing for the consumer that has the message then.
	Lease bool

	// Drain: the subscription honours [Consumer]. In particular the contexts
	// of delivered messages stay alive while their consumer drains.
	Drain bool

	// Schedules: a publish with a [ScheduleTick] in its context stores its messages once for that
	// tick, whichever process attempts it. The backend itself is a [Scheduler]; a decorator need not be.
	Schedules bool

	// Conditions: a message with a [PublishCondition] in its context is stored on that
	// condition.
	Conditions bool

	// DelayResolution is the finest difference between two delays that the backend can
	// keep apart. 0 means a millisecond or finer.
	DelayResolution time.Duration
}

// FeaturesOf reports the features of v, which may be any Watermill Publisher
// or Subscriber. A value that has no Features method promises nothing.
func FeaturesOf(v any) Features {
	if f, ok := v.(interface{ Features() Features }); ok {
		return f.Features()
	}
	return Features{}
}

var (
	// ErrClosed is returned by a backend that has been closed.
	ErrClosed = errors.New("ezq: backend is closed")

	// ErrGroupRequired is returned by the Subscribe of a consumer without a group if the topic has groups and no queue of
	// its own, where what was published before would be missing; and if it is a pattern, which only a group can
	// subscribe to: see [IsPattern].
	ErrGroupRequired = errors.New("ezq: the consumers of this topic have groups")

	// ErrInterrupted is the cause with which the context of a message ends
	// when its consumer stops waiting for it.
	ErrInterrupted = errors.New("ezq: interrupted")

	// ErrLeaseLost is the cause with which the context of a message ends when
	// another consumer may receive it: the lease ran out, or was taken away.
	ErrLeaseLost = errors.New("ezq: lease lost")

	// ErrCancelled is the cause with which the context of a message ends when the message was
	// removed although its consumer had it: with [Canceller].CancelRunning, or by an operator in
	// another way, such as a purge of its queue. It does not come back, and an ack or nack from now
	// on changes nothing. It matches ErrLeaseLost, too.
	ErrCancelled error = cancelledError{}
)

type cancelledError struct{}

func (cancelledError) Error() string { return "ezq: cancelled" }

// Unwrap has the error match ErrLeaseLost: the lease of a message that is gone is lost.
func (cancelledError) Unwrap() error { return ErrLeaseLost }
