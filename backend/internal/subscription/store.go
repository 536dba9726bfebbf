package subscription

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Store keeps the messages of one topic and leases them. Its methods may be
// called concurrently. None of them may block beyond the end of its context.
type Store interface {
	// Claim carries out settle, of which none is a DeadLetter, as Settle does, and then
	// leases up to limit visible messages. If it returns an error, any part of it may have happened.
	Claim(ctx context.Context, settle []Settlement, limit int, leaseFor time.Duration) (Claim, error)

	// Settle carries out each settlement whose token is still the latest of its
	// message, and returns the others. It waits for no message that others have locked.
	// Repeating a settlement is harmless, and the way to find out whether it was stored.
	// DeadLetters come without others, and for one topic. An error is a [*Refusal] if it is,
	// or may be, the fault of what was to be stored.
	Settle(ctx context.Context, settle []Settlement) (Missed, error)

	// Extend extends the leases of tokens to end after leaseFor from now, and returns
	// those which it could not extend. Nor does it wait for messages that are locked. An error is
	// a [*Refusal] if it may be the fault of some of the messages.
	Extend(ctx context.Context, tokens []Token, leaseFor time.Duration) (Missed, error)

	// Changed returns a channel that is closed when a message may have become
	// visible since the call. It is a hint; nil means that there are none.
	Changed() <-chan struct{}
}

// Token proves one lease of one message. A store accepts it until the message
// is leased again.
type Token struct {
	ID     int64     // the message; earlier messages have smaller ones
	Number int       // how often the message has been leased
	At     time.Time // when it was leased, by the clock of the store
}

// Receipt is what the Receipt of a delivery implements if the consumer can settle its
// message without the subscription, as in a transaction. An ack of such a message is not
// stored.
type Receipt interface{ Settled() bool }

// Leaser is what the Parker of a delivery implements: see [Lease]. Code that settles a
// message without the subscription asks it for the proof.
type Leaser interface {
	// EnsureLease makes sure that the message is leased, and not only locked, and returns
	// the token of the lease. It fails with [backend.ErrLeaseLost], or with the cause of ctx.
	// From now on its subscription leases messages at once: a consumer that needs one
	// lease will need others.
	EnsureLease(ctx context.Context) (Token, error)
}

// Lease is one message that was claimed or locked.
type Lease struct {
	Token
	Message  *message.Message
	Delivery *backend.Delivery
	Size     int // in bytes, for MaxInFlightBytes
}

// Claim is what a claim, or a lock, brought.
type Claim struct {
	Leases []Lease // in the order in which to hand them over

	// Next is how long until another message becomes visible, as far as known
	// now. It is negative if there is none. It counts only when fewer messages
	// were leased than asked for.
	Next time.Duration

	Missed Missed // as returned by Settle

	// Redelivered is whether a message that is locked may have been delivered before: it
	// was leased, or locked and not removed.
	Redelivered bool
}

// Missed is the tokens of settlements and extensions that have changed nothing.
type Missed struct {
	Lost []Token // another consumer has the message, or has had it since
	Gone []Token // it is not there any more: settled before, or removed by others
	Busy []Token // it was locked at that moment; the token may be accepted soon

	// Now is when the store began to extend leases, by its own clock, if it tells. A message that
	// is Gone although its lease had not ended then was removed by others than its consumers.
	Now time.Time
}

// split returns the settlements of batch that are to be tried again, and the others.
func (m Missed) split(batch []Settlement) (retry, done []Settlement) {
	if len(m.Busy) == 0 {
		return nil, batch
	}
	kinds := m.kinds()
	for _, settlement := range batch {
		if kinds[settlement.Token] == missedBusy {
			retry = append(retry, settlement)
		} else {
			done = append(done, settlement)
		}
	}
	return retry, done
}

// lost counts the settlements of batch whose leases are lost: those that came late, and those
// that were tried before, in time, and could change nothing.
func (m Missed) lost(batch []Settlement) (late, kept int) {
	kinds := m.kinds()
	for i := range batch {
		switch {
		case kinds[batch[i].Token] != missedLost:
		case batch[i].wait > 0:
			kept++
		default:
			late++
		}
	}
	return late, kept
}

// missedKind is which of the lists of a [Missed] has a token.
type missedKind int

const (
	notMissed missedKind = iota
	missedLost
	missedGone
	missedBusy
)

// kinds returns the kind of each token that was missed.
func (m Missed) kinds() map[Token]missedKind {
	if len(m.Lost)+len(m.Gone)+len(m.Busy) == 0 {
		return nil
	}
	kinds := map[Token]missedKind{}
	for kind, tokens := range [...][]Token{missedLost: m.Lost, missedGone: m.Gone, missedBusy: m.Busy} {
		for _, token := range tokens {
			kinds[token] = missedKind(kind)
		}
	}
	return kinds
}

// Refusal is why a store has carried out nothing of a batch: it refuses some of it for
// what that is. Sent again as it is, it would be refused again, unless the refusal is
// transient.
type Refusal struct {
	Cause error
	Whole bool // all of the batch is refused, whatever it says; if not, at least one of it

	// Transient is whether the cause may as well have been the state of the store, which
	// passes or is mended. Only trying each settlement by itself, and again, can tell.
	Transient bool
}

func (r *Refusal) Error() string { return r.Cause.Error() }
func (r *Refusal) Unwrap() error { return r.Cause }

// Action is how a message is settled.
type Action uint8

// The actions.
const (
	// Ack removes the message.
	Ack Action = iota

	// Nack makes the message visible again as its disposition says: after its delay, or at
	// once and in the place that it was published to; and takes the lease back if that is
	// not to count. It records the failures and the handlers that are done.
	Nack

	// Release makes the message visible at once, as if it had not been leased: it was
	// never handed over, or its consumer has not begun with it. It goes back to the place
	// that it was published to. Its disposition is not used.
	Release

	// DeadLetter moves the message to another topic.
	DeadLetter
)

// Settlement is an action on a leased message.
type Settlement struct {
	Token
	Action      Action
	UUID        string              // of a Nack or a DeadLetter
	Disposition backend.Disposition // of a Nack or a DeadLetter

	// Bare is for settlements refused before: a Nack records no failures, and the reason
	// of a DeadLetter is stored as ASCII.
	Bare bool

	unleased bool // its message was locked, and not leased: others may have it
	unfailed bool // it is a Nack that counts no failure
	attempt
}

// topic returns where a dead letter goes. Those for one topic are stored together.
func (s *Settlement) topic() string {
	if s.Action != DeadLetter {
		return ""
	}
	return s.Disposition.Target.Topic
}

func allAcks(batch []Settlement) bool {
	for i := range batch {
		if batch[i].Action != Ack {
			return false
		}
	}
	return true
}
