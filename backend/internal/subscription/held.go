package subscription

import (
	"context"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// held is a message that this subscription has leased or locked. The mutex of its
// owner guards what is below it.
type held struct {
	Lease                          // its token is final once batch is nil
	cancel context.CancelCauseFunc // of the message's context
	owner  *leases

	batch       *lockedBatch // nil if the message is leased
	lockOutcome lockOutcome
	phase       phase
	parked      bool      // delivered, but waiting with the consumer
	since       time.Time // when the phase began
	extendAt    time.Time
	expiresAt   time.Time // by our own clock, at the latest
	grantedAt   time.Time // by the clock of the store: when it was leased or extended last
	planned     bool      // it is about to be extended
	retrying    bool      // the last extension has failed; the next is at extendAt, and not before
	failedAlone bool      // the last extension has failed, which was of this lease only
	isLeased    bool      // the store has said so; a locked message counts as leased
	lockLost    bool      // it was locked, and then neither removed nor leased

	extension chan struct{} // closed when the last extension is no longer under way
}

type phase uint8

const (
	waiting      phase = iota // for a slot
	sending                   // has a slot, is being sent to the channel
	delivered                 // is with the consumer
	settling                  // was, and is about to be settled
	ackSuspected              // is done, but its ack was refused with others
	ackRefused                // is done, but its ack is refused
)

// lockOutcome is what becomes of a message at the end of its lock.
type lockOutcome uint8

const (
	lockLeased   lockOutcome = iota // it is leased
	lockRemoved                     // it was acked in time, and is removed
	lockReleased                    // it is released
)

// prepare returns a lease for each message that was asked for at sent.
func prepare(ls *leases, fetched []Lease, sent time.Time) []*held {
	const together = 16 // leases in one allocation; they are freed together, so not too many
	all := make([]*held, 0, len(fetched))
	for some := range slices.Chunk(fetched, together) {
		block := make([]held, len(some))
		for i, f := range some {
			l := &block[i]
			ctx, cancel := context.WithCancelCause(backend.WithDelivery(ls.parent, f.Delivery))
			f.Message.SetContext(ctx)
			f.Delivery.Parker = l
			l.Lease, l.cancel, l.owner, l.since, l.grantedAt = f, cancel, ls, sent, f.At
			l.extended(sent, ls.config.Lease)
			all = append(all, l)
		}
	}
	return all
}

// extended records that the store was asked at sent to lease for d, and did.
func (l *held) extended(sent time.Time, d time.Duration) {
	l.extendAt = sent.Add(d / 3)
	l.expiresAt = sent.Add(d)
	l.isLeased, l.failedAlone, l.retrying = true, false, false
}

// wasValid reports whether the lease had not ended at a time by the clock of the store. Our own clock cannot tell: it may
// have stood still, as that of a suspended host does.
func (l *held) wasValid(now time.Time) bool {
	return !now.IsZero() && now.Before(l.grantedAt.Add(l.owner.config.Lease))
}

// isDue reports whether to extend the lease now, in the same go with others.
func (l *held) isDue(now time.Time) bool {
	if l.retrying {
		return !now.Before(l.extendAt)
	}
	return l.extendAt.Before(now.Add(l.owner.config.Lease / 6))
}

// busyRetry is how long until the lease is extended again, after others had locked the message. Until one
// that is not leased is, nothing may be fetched.
func (l *held) busyRetry() time.Duration {
	if l.isLeased {
		return time.Second
	}
	return cancelTime
}

// retryExtension has the lease extended again after a wait, and before it runs out.
func (l *held) retryExtension(now time.Time, wait time.Duration) {
	l.retrying = true
	l.extendAt = now.Add(min(wait, l.owner.config.Lease/10))
	if l.expiresAt.Before(l.extendAt) {
		l.extendAt = l.expiresAt
	}
}

// checkAt is when l must be extended, unless that is planned, or ends.
func (l *held) checkAt() time.Time {
	if l.batch != nil {
		return l.expiresAt
	}
	at := l.extendAt
	if l.planned {
		at = l.expiresAt
	}
	if end := l.end(); end.Before(at) {
		return end
	}
	return at
}

// end is when l is no longer extended: a handler has had it for MaxExtension,
// or it has waited for a slot for as long as a lease lasts. The deliverer watches what
// waits to be received: only one of them can know that it was not.
func (l *held) end() time.Time {
	switch l.phase {
	case waiting:
		return l.since.Add(l.owner.config.Lease)
	case delivered:
		return l.since.Add(l.owner.config.MaxExtension)
	default:
		return l.expiresAt
	}
}

// extensionFailed plans the next attempt, after one that was of this lease alone, or not.
func (l *held) extensionFailed(now time.Time, alone bool) {
	wait := time.Second
	if alone && l.phase == ackRefused {
		wait = refusedMax // nothing of it can be stored, perhaps for ever
	}
	l.failedAlone = alone
	l.retryExtension(now, wait)
}

// Park implements [backend.Parker]. A message that is parked has no slot.
func (l *held) Park(parked bool) { l.owner.park(l, parked) }

// EnsureLease implements [Leaser].
func (l *held) EnsureLease(ctx context.Context) (Token, error) {
	if b := l.owner.leaseOnly(l); b != nil {
		select {
		case <-b.ended:
		case <-ctx.Done():
			return Token{}, context.Cause(ctx)
		}
	}
	return l.owner.token(l)
}

var (
	_ backend.Parker = (*held)(nil)
	_ Leaser         = (*held)(nil)
)
