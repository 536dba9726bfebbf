package subscription

import "time"

// lockedBatch is messages that are locked and not leased. Messages that are acked while the
// lock lasts are removed with its end. The rest is leased then, and goes on like any other.
type lockedBatch struct {
	store LockedBatch
	sent  time.Time
	due   chan struct{} // holds a token when the lock should end at once
	ended chan struct{} // closed when it has

	// The mutex of the leases guards what follows.

	leases      []*held
	open        int  // how many of them are with consumers, or wait for that
	openAtEnd   int  // the lock ends once no more than this many are
	closed      bool // the lock is ending
	settlements []lockedSettlement
}

// lockedSettlement is how a locked message is settled.
type lockedSettlement struct {
	lease *held
	Settlement
}

func newLockedBatch(batch LockedBatch, sent time.Time) *lockedBatch {
	return &lockedBatch{store: batch, sent: sent, due: make(chan struct{}, 1), ended: make(chan struct{})}
}

// finishAt has the lock end when no more than n of its messages are open.
func (b *lockedBatch) finishAt(n int) {
	b.openAtEnd = n
	if b.open <= n {
		signal(b.due)
	}
}

// closeOne records that one message is no longer open.
func (b *lockedBatch) closeOne() {
	b.open--
	b.finishAt(b.openAtEnd)
}

// close returns what the lock ends with: the messages that were acked, and those that are
// to be leased.
func (b *lockedBatch) close() (acked, rest []*held) {
	b.closed = true
	acked = make([]*held, 0, len(b.settlements))
	for _, s := range b.settlements {
		if s.Action == Ack && s.lease.lockOutcome == lockLeased {
			s.lease.lockOutcome = lockRemoved
			acked = append(acked, s.lease)
		}
	}
	for _, l := range b.leases {
		if l.lockOutcome == lockLeased {
			rest = append(rest, l)
		}
	}
	return acked, rest
}

// leased gives messages the tokens of the leases that a store was asked for at sent. It returns those
// that it has not leased.
func leased(rest []*held, tokens []Token, sent time.Time) (unleased []*held) {
	for i, l := range rest {
		if l.isLeased = tokens[i] != (Token{}); !l.isLeased {
			l.lockLost = true
			unleased = append(unleased, l)
			continue
		}
		l.Token, l.grantedAt = tokens[i], tokens[i].At
		l.extended(sent, l.owner.config.Lease)
	}
	return unleased
}

// detach has the settlements of all messages stored without b from now on.
func (b *lockedBatch) detach() {
	for _, l := range b.leases {
		l.batch = nil
	}
}
