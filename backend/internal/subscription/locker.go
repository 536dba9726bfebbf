package subscription

import (
	"context"
	"time"
)

// Locker is a [Store] that can also lock messages: keep them from others for a moment
// without writing down which subscription has them. A lock costs far less than a lease,
// which is written twice, and is for messages that are acked soon.
type Locker interface {
	Store

	// Lock locks up to limit visible messages until [LockedBatch.Finish]. The batch is nil
	// if nothing is locked: there may be no message; or the store cannot lock just now, in
	// which case ok is false and Claim should be called instead.
	//
	// The tokens of the leases are those which the messages had before: they stand for
	// a message that has not been leased since.
	//
	// A store that does not hear of the subscription for about leaseFor releases the messages.
	Lock(ctx context.Context, limit int, leaseFor time.Duration) (batch LockedBatch, claim Claim, ok bool, err error)
}

// LockedBatch is messages that are locked. It is not safe for concurrent use.
type LockedBatch interface {
	// Finish ends the lock: it removes the acked messages, leases the others of rest,
	// and releases those that are in neither. All of it happens, or none, after which nothing
	// is locked any more; if it returns an error, which of the two is unknown.
	//
	// It returns the tokens of the leases in the order of rest. The token of a message that it
	// could not lease is zero: nothing keeps others from that one, and the store passes it by
	// for a while.
	//
	// If the error is a [*Refusal], the store refuses to remove what was acked: all of acked
	// and rest are leased then, and it returns the tokens of both, in that order.
	Finish(ctx context.Context, acked, rest []Token, leaseFor time.Duration) ([]Token, error)
}
