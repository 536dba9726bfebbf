package subscription

import (
	"slices"
	"time"
)

const (
	// maxLockedBatches is how many locked batches one subscription has at a time: the
	// messages of one are being handled while the next ones are fetched.
	maxLockedBatches = 2

	// firstAcks is how many messages a subscription must have acked before it locks any.
	// Messages locked when a process dies were never counted as delivered: a message
	// that kills its consumer, again and again, must meet one that leases.
	firstAcks = 10

	// lockCooldown is how long a subscription only leases after a lock was lost. The
	// fault that broke one connection often breaks the next, too; leases outlive that.
	lockCooldown = 10 * time.Second

	// This share of all messages must be acked soon for a subscription to begin, and to
	// go on, with locking them.
	soonToBegin = 0.9
	soonToGoOn  = 0.7
)

// lockPolicy decides whether the next messages are locked or leased. It has no mutex: that
// of its [leases] guards it.
type lockPolicy struct {
	lockFor         time.Duration // 0: nothing is locked
	heuristic       lockHeuristic
	leaseOnly       bool           // nothing is locked any more
	lastLockFailure time.Time      // nothing is locked before lockCooldown has passed since
	batches         []*lockedBatch // oldest first
}

// next reports whether the next messages are to be locked, and whether they can be
// fetched now. In the cooldown they cannot before the other batches have ended, which may be
// lost as well: the acks of those must be stored before their messages are fetched again.
func (p *lockPolicy) next(now time.Time) (lock, ready bool) {
	if p.inCooldown(now) {
		p.finishAll()
		return false, len(p.batches) == 0
	}
	lock = p.lockFor > 0 && !p.leaseOnly && p.heuristic.decide()
	if !lock || len(p.batches) < maxLockedBatches {
		return lock, true
	}
	oldest := p.batches[0]
	oldest.finishAt(len(oldest.leases) / 8)
	return true, false
}

// inCooldown reports whether a lock has failed not long ago.
func (p *lockPolicy) inCooldown(now time.Time) bool {
	return now.Sub(p.lastLockFailure) <= lockCooldown
}

// failed records that a lock has failed.
func (p *lockPolicy) failed(now time.Time) { p.lastLockFailure = now }

// finishAll has all locked batches end at once.
func (p *lockPolicy) finishAll() {
	for _, b := range p.batches {
		signal(b.due)
	}
}

// acked counts the ack of a leased message that came so long after its hand-over.
func (p *lockPolicy) acked(after time.Duration) { p.heuristic.acked(after < p.lockFor/2) }

// maxWait is how long a message may wait for its hand-over: a locked message should be
// acked before its lock ends.
func (p *lockPolicy) maxWait() time.Duration {
	if p.heuristic.locking {
		return p.lockFor / 2
	}
	return maxWindow
}

func (p *lockPolicy) add(b *lockedBatch) { p.batches = append(p.batches, b) }

func (p *lockPolicy) remove(b *lockedBatch) {
	p.batches = slices.DeleteFunc(p.batches, func(x *lockedBatch) bool { return x == b })
}

// lockHeuristic follows how many of all messages are acked soon after they were handed
// over, and decides whether it pays to lock the next ones.
type lockHeuristic struct {
	soon    float64 // the share that is acked soon: a moving average
	acks    int
	locking bool
}

// acked counts a leased message. The mean of the first ones is the beginning.
func (h *lockHeuristic) acked(soon bool) {
	h.acks++
	var value float64
	if soon {
		value = 1
	}
	h.soon += (value - h.soon) / float64(min(h.acks, 32))
}

// batchEnded counts the messages of a locked batch.
func (h *lockHeuristic) batchEnded(acked, rest int) {
	if acked+rest == 0 {
		return
	}
	h.soon += (float64(acked)/float64(acked+rest) - h.soon) / 2
}

// decide reports whether it pays to lock messages.
func (h *lockHeuristic) decide() bool {
	least := soonToBegin
	if h.locking {
		least = soonToGoOn
	}
	h.locking = h.acks >= firstAcks && h.soon >= least
	return h.locking
}
