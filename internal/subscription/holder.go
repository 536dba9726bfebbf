package subscription

import (
	"context"
	"time"
)

// Holder is a [Store] that can also hold messages: keep them from others for a moment
// without writing down who has them. It costs far less than a lease, which is written
// twice, and is for messages that are acked soon.
type Holder interface {
	Store

	// Hold locks up to limit visible messages until [Held.Finish]. It returns a nil Held
	// if it holds nothing: there may be no message, or it cannot hold just now, in which
	// case ok is false and Claim should be called instead.
	//
	// The tokens of the leases are those which the messages had before: they stand for
	// a message that nobody has leased since.
	//
	// A store that does not hear of its holder for about lease gives the messages back.
	Hold(ctx context.Context, limit int, lease time.Duration) (held Held, claim Claim, ok bool, err error)
}

// Held is messages that are held. It is not safe for concurrent use.
type Held interface {
	// Finish ends the hold: it removes the acked messages, leases the others of rest,
	// and gives back those that are in neither, as a Release does. It returns the tokens of the leases in
	// the order of rest. All of it happens, or none, after which nothing is held any
	// more; if it returns an error, nobody knows which. If that is a [*Refusal], the store
	// refuses to remove what was acked: all of acked and rest are leased then, and it returns
	// the tokens of both, in that order.
	Finish(ctx context.Context, acked, rest []Token, lease time.Duration) ([]Token, error)
}

const (
	// maxHolds is how many holds one subscription has at a time: the messages of one are
	// being handled while the next ones are fetched.
	maxHolds = 2

	// firstAcks is how many messages a subscription must have acked before it holds any.
	// What is held when a process dies was never counted as delivered: a message that
	// kills its consumer, again and again, must meet one that leases.
	firstAcks = 10

	// mistrust is how long a subscription only leases after a hold was lost. What has
	// broken one connection often breaks the next one, too; leases outlive that.
	mistrust = 10 * time.Second

	// These many of all messages must be acked soon for a subscription to begin, and to
	// go on, with holding them.
	soonToBegin = 0.9
	soonToGoOn  = 0.7
)

// habit follows how many of all messages are acked soon after they were handed over.
type habit struct {
	soon    float64
	acks    int
	holding bool
}

// acked counts a leased message. The mean of the first ones is the beginning.
func (h *habit) acked(soon bool) {
	h.acks++
	var value float64
	if soon {
		value = 1
	}
	h.soon += (value - h.soon) / float64(min(h.acks, 32))
}

// held counts the messages of a hold.
func (h *habit) held(acked, rest int) {
	if acked+rest == 0 {
		return
	}
	h.soon += (float64(acked)/float64(acked+rest) - h.soon) / 2
}

// hold reports whether it pays to hold messages.
func (h *habit) hold() bool {
	least := soonToBegin
	if h.holding {
		least = soonToGoOn
	}
	h.holding = h.acks >= firstAcks && h.soon >= least
	return h.holding
}
