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
	Claim(ctx context.Context, settle []Settlement, limit int, lease time.Duration) (Claim, error)

	// Settle carries out each settlement whose token is still the latest of its
	// message, and returns the others. It waits for no message that others have locked.
	// Repeating a settlement is harmless, and the way to find out whether it was stored.
	// DeadLetters come without others, and for one topic. An error is a [*Refusal] if it is,
	// or may be, the fault of what was to be stored.
	Settle(ctx context.Context, settle []Settlement) (Missed, error)

	// Extend renews the leases of tokens to end after lease from now, and returns
	// those which it could not renew. Nor does it wait for messages that are locked.
	Extend(ctx context.Context, tokens []Token, lease time.Duration) (Missed, error)

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

// Receipt is what the Receipt of a delivery implements if its message can be
// settled beside the subscription. An ack of such a message is not stored.
type Receipt interface{ Settled() bool }

// Keeper is what the Keeper of a delivery implements: see [Lease]. Who settles a message
// beside the subscription asks it for the proof.
type Keeper interface {
	// Leased makes sure that the message is leased, and not only held, and returns the
	// token of that. It fails with [backend.ErrLeaseLost], or with the cause of ctx. What
	// its subscription fetches from now on is leased at once: who asks once will again.
	Leased(ctx context.Context) (Token, error)
}

// Lease is one claimed message.
type Lease struct {
	Token
	Message  *message.Message
	Delivery *backend.Delivery
	Size     int // in bytes, for MaxInFlightBytes
}

// Claim is what a claim brought.
type Claim struct {
	Leases []Lease // in the order in which to hand them over

	// Next is how long until another message becomes visible, as far as known
	// now. It is negative if there is none. It counts only when fewer messages
	// were leased than asked for.
	Next time.Duration

	Missed Missed // as returned by Settle

	// Again is whether a message that is held may have been delivered before: it was
	// leased, or held and not removed.
	Again bool
}

// Missed is the tokens of settlements and extensions that have changed nothing.
type Missed struct {
	Lost []Token // another consumer has the message, or has had it since
	Gone []Token // it is not there any more: settled before, or removed beside
	Busy []Token // it was locked at that moment, and may be had under this token soon
}

// divide returns the outcomes of batch that are to be tried again, and the others.
func (m Missed) divide(batch []Settlement) (again, done []Settlement) {
	if len(m.Busy) == 0 {
		return nil, batch
	}
	missed := m.again()
	for _, outcome := range batch {
		if missed[outcome.Token] {
			again = append(again, outcome)
		} else {
			done = append(done, outcome)
		}
	}
	return again, done
}

// again returns the tokens that were missed, and whether they are to be tried again.
func (m Missed) again() map[Token]bool {
	if len(m.Lost)+len(m.Gone)+len(m.Busy) == 0 {
		return nil
	}
	again := map[Token]bool{}
	for _, token := range m.Lost {
		again[token] = false
	}
	for _, token := range m.Gone {
		again[token] = false
	}
	for _, token := range m.Busy {
		again[token] = true
	}
	return again
}

// Refusal is why a store has carried out nothing of a batch: it refuses some of it for
// what that is. Sent again as it is, it would be refused again, unless it may pass.
type Refusal struct {
	Cause error
	Whole bool // all of it is refused, whatever it says; if not, at least one of it

	// MayPass is whether it may as well have been the state of the store, which passes or
	// is mended. Only trying each outcome by itself, and again, can tell.
	MayPass bool
}

func (r *Refusal) Error() string { return r.Cause.Error() }
func (r *Refusal) Unwrap() error { return r.Cause }

// Action is what becomes of a message.
type Action uint8

// The actions.
const (
	// Ack removes the message.
	Ack Action = iota

	// Nack makes the message visible again as its verdict says: after its delay, or at
	// once and in the place that it was published to; and takes the lease back if that is
	// not to count. It records the failures and what is done.
	Nack

	// Release makes the message visible at once, as if it had not been leased: it was
	// never handed over, or its consumer has not begun with it. It goes back to the place
	// that it was published to. Its verdict says nothing.
	Release

	// DeadLetter moves the message to another topic.
	DeadLetter
)

// Settlement is an action on a leased message.
type Settlement struct {
	Token
	Action  Action
	UUID    string              // of a Nack or a DeadLetter
	Verdict backend.Disposition // of a Nack or a DeadLetter

	// Bare is for what was refused before: a Nack records no failures, and what a
	// DeadLetter says of its reason is ASCII.
	Bare bool

	attempt
}
