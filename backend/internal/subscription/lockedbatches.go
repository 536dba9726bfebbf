package subscription

import "time"

// lockedBatches is what the locker of messages does with the leases of its subscription. Its methods lock the
// mutex of these.
type lockedBatches struct{ leases *leases }

// add adds messages that were locked.
func (lb lockedBatches) add(b *lockedBatch) {
	ls := lb.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.locks.add(b)
	for _, l := range b.leases {
		l.batch = b
		b.open++
		ls.insert(l)
	}
}

// close returns what a locked batch ends with. Settlements from now on are late.
func (lb lockedBatches) close(b *lockedBatch) (acked, rest []*held) {
	ls := lb.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	acked, rest = b.close()
	ls.locks.heuristic.batchEnded(len(acked), len(rest))
	return acked, rest
}

// finished records that a locked batch has ended at sent. It returns the ids of what it could not lease.
func (lb lockedBatches) finished(b *lockedBatch, rest []*held, tokens []Token, acked int, sent time.Time) (unleased []int64) {
	ls := lb.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.capacity.throughput.settled(acked, time.Now())
	for _, l := range leased(rest, tokens, sent) {
		unleased = append(unleased, l.ID)
		ls.lose(l)
	}
	b.detach()
	signal(ls.wakeExtender)
	return unleased
}

// lost records that the end of a locked batch has failed. Other consumers may have its
// messages. The same fault may break the other one, too.
func (lb lockedBatches) lost(b *lockedBatch) {
	ls := lb.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.locks.failed(time.Now())
	ls.locks.finishAll()
	for _, l := range b.leases {
		l.lockLost = true
		ls.lose(l)
	}
	b.detach()
}

// remove allows another locked batch. What b leaves to be stored is known by then.
func (lb lockedBatches) remove(b *lockedBatch) {
	ls := lb.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.locks.remove(b)
	signal(ls.wakeFetcher)
}

// lockFailed records that a lock has failed just now.
func (lb lockedBatches) lockFailed() {
	ls := lb.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.locks.failed(time.Now())
}
