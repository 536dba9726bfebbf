package subscription

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// leases is what a subscription has: fetched, and neither settled nor lost. The loops of a
// subscription share it: its methods lock.
type leases struct {
	parent context.Context // of every message's context; it does not end

	mu       sync.Mutex // of the contents, and of each lease
	contents            // whose own methods do not lock: only this file and lockedbatches.go call them
}

func newLeases(parent context.Context, config Config) *leases {
	return &leases{parent: parent, contents: newContents(config)}
}

// add adds messages that were leased.
func (ls *leases) add(all []*held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range all {
		ls.insert(l)
	}
}

// next waits for a message and a slot for it.
func (ls *leases) next(ctx context.Context) (*held, bool) {
	for ctx.Err() == nil {
		if l := ls.tryNext(); l != nil {
			signal(ls.wakeFetcher)
			return l, true
		}
		select {
		case <-ls.wakeDeliverer:
		case <-ctx.Done():
		}
	}
	return nil, false
}

func (ls *leases) tryNext() *held {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.paused || !ls.capacity.hasSlot() {
		return nil
	}
	l := ls.table.next()
	if l != nil {
		ls.capacity.slots++
	}
	return l
}

// setPaused has nothing more fetched and handed over, or allows it again.
func (ls *leases) setPaused(paused bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.contents.setPaused(paused)
}

// isPaused reports whether nothing more is to be fetched and handed over.
func (ls *leases) isPaused() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.paused
}

// putBack undoes next at the end, when the slot is not needed any more.
func (ls *leases) putBack(l *held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.table.contains(l) { // not lost meanwhile
		ls.table.putBack(l)
	}
}

// handedOver records that the consumer has received l.
func (ls *leases) handedOver(l *held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.phase, l.since = delivered, time.Now()
	if ls.table.contains(l) { // not lost meanwhile
		ls.config.Counters.InFlight.Add(1) // first, so that the sum of both never leaves l out
		ls.config.Counters.Prefetched.Add(-1)
	}
	ls.rest.received(l.since)
	if l.end().Before(l.extendAt) {
		signal(ls.wakeExtender)
	}
}

// notReceived records that a message is released because it was not received.
func (ls *leases) notReceived() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.rest.notReceived(time.Now())
}

// untilRested returns for how long not to fetch.
func (ls *leases) untilRested() time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return time.Until(ls.rest.until)
}

// has reports whether l is neither settled nor lost.
func (ls *leases) has(l *held) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.table.contains(l)
}

// remove removes a lease, which frees its slot. It does nothing if the lease is
// lost already.
func (ls *leases) remove(l *held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.drop(l)
}

// park implements [backend.Parker] for l.
func (ls *leases) park(l *held, parked bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l.parked == parked || !ls.table.contains(l) {
		return
	}
	l.parked = parked
	ls.capacity.park(parked)
	if parked {
		signal(ls.wakeDeliverer)
		signal(ls.wakeFetcher)
	}
}

// toFetch waits until there is capacity to fetch more, and returns for how many
// messages. ok is false if ctx ended.
func (ls *leases) toFetch(ctx context.Context) (n int, ok bool) {
	for ctx.Err() == nil {
		ls.mu.Lock()
		n = ls.contents.toFetch()
		ls.mu.Unlock()
		if n > 0 {
			return n, true
		}
		select {
		case <-ls.wakeFetcher:
		case <-ctx.Done():
		}
	}
	return 0, false
}

// observeSizes records how large the messages of a fetch are, which was sent at sent.
func (ls *leases) observeSizes(fetched []Lease, sent time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.capacity.observeSizes(fetched, time.Since(sent))
}

// pollGap is how long to wait for more after a fetch that brought something.
func (ls *leases) pollGap() time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.capacity.throughput.gap(ls.config.PollMin)
}

// waitToLock waits until another batch may be locked, where locking pays. It reports
// whether one may.
func (ls *leases) waitToLock(ctx context.Context) bool {
	for ctx.Err() == nil {
		lock, ready := ls.nextLock()
		if ready {
			return lock
		}
		select {
		case <-ls.wakeFetcher:
		case <-ctx.Done():
		}
	}
	return false
}

// nextLock reports whether the next messages are to be locked, and whether they can be
// fetched now: see [lockPolicy.next].
func (ls *leases) nextLock() (lock, ready bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.locks.next(time.Now())
}

// inLockCooldown reports whether a lock has failed not long ago.
func (ls *leases) inLockCooldown() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.locks.inCooldown(time.Now())
}

// leaseOnly has all further messages leased at once, and returns the locked batch of l,
// which ends now, or nil.
func (ls *leases) leaseOnly(l *held) *lockedBatch {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.locks.leaseOnly = true
	if l.batch != nil {
		signal(l.batch.due)
	}
	return l.batch
}

// token returns the token of a lease that is not lost.
func (ls *leases) token(l *held) (Token, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.table.contains(l) {
		return Token{}, backend.ErrLeaseLost
	}
	return l.Token, nil
}

// settleLocked leaves the settlement of a message to the end of its locked batch, and frees
// its slot. It reports whether nothing else is to do: the message is locked, or was and was not leased.
func (ls *leases) settleLocked(l *held, s *Settlement) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	s.unleased = l.lockLost
	switch {
	case l.batch != nil:
	case s.Action == Ack:
		ls.locks.acked(time.Since(l.since))
		return false
	default:
		return !l.isLeased
	}
	ls.config.Counters.Unstored.Add(1)
	l.batch.settlements = append(l.batch.settlements, lockedSettlement{l, *s})
	ls.drop(l)
	return true
}

// releaseLocked has the end of its locked batch release l. It reports whether it will.
func (ls *leases) releaseLocked(l *held) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l.batch == nil || l.batch.closed {
		return false
	}
	l.lockOutcome = lockReleased
	ls.config.Counters.Released.Add(1)
	ls.drop(l)
	return true
}

// stored records that settlements have been stored, or that they never will be.
func (ls *leases) stored(batch []Settlement) (refusedSince time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.capacity.throughput.settled(len(batch), time.Now())
	if ls.config.SyncAck || ls.refused.len() > 0 {
		for i := range batch {
			if l := ls.table.find(batch[i].Token); l != nil {
				ls.drop(l)
			}
		}
	}
	return ls.refused.stored(batch)
}

// suspectAcks goes on leasing the messages of a batch whose acks may be refused, until that
// is known.
func (ls *leases) suspectAcks(batch []Settlement, cause error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	for i := range batch {
		if batch[i].Action == Ack {
			ls.refused.add(newRefusedAck(ls, batch[i].Token, ackSuspected, now))
		}
	}
	ls.refused.cause = cause
	signal(ls.wakeExtender)
}

// keepRefused goes on leasing messages that are done, and whose acks the store refuses
// because of cause. It returns how many are new.
func (ls *leases) keepRefused(acks []Settlement, cause error) (more int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	for i := range acks {
		if l := ls.table.find(acks[i].Token); l != nil {
			ls.drop(l) // with SyncAck
		}
		if ls.refused.add(newRefusedAck(ls, acks[i].Token, ackRefused, now)) {
			more++
		}
	}
	ls.refused.cause = cause
	signal(ls.wakeExtender)
	return more
}

// manyRefused reports whether so many acks are refused that it may be the fault of none of them.
func (ls *leases) manyRefused() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.refused.many()
}

// tooManyRefused returns why nothing more is to be fetched: too many acks are refused, or may be.
func (ls *leases) tooManyRefused() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.refused.tooMany()
}

// suspectsAreLeased reports whether the store has leased all messages whose acks are refused, or
// may be, since that was suspected: those of a lost lock were not leased before.
func (ls *leases) suspectsAreLeased() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.refused.areLeased()
}

// untilCheck is [contents.untilCheck], under the mutex.
func (ls *leases) untilCheck(now time.Time) time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.contents.untilCheck(now)
}

// due is [contents.due], under the mutex.
func (ls *leases) due(now time.Time) (extend, undelivered []*held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.contents.due(now)
}

// beginExtension returns those of a group that are still to be extended, and until when that may take
// which begins at sent. While extension is open, it is under way.
func (ls *leases) beginExtension(group []*held, extension chan struct{}, sent time.Time) (live []*held, deadline time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	live = ls.contents.beginExtension(group, extension, sent)
	return live, ls.extensionDeadline(live, sent)
}

// planExtension notes that the leases of a group are about to be extended.
func (ls *leases) planExtension(group []*held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range group {
		l.planned = true
	}
}

// extended is [contents.extended], under the mutex.
func (ls *leases) extended(group []*held, missed Missed, sent time.Time) (lost int, cancelled []*held) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.contents.extended(group, missed, sent)
}

// extensionFailed plans the next attempt.
func (ls *leases) extensionFailed(group []*held, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range group {
		l.extensionFailed(now, len(group) == 1)
	}
}

// stopExtending has l extended no more, and waits for the extension that is under way: if
// it came after a nack, it would undo its delay.
func (ls *leases) stopExtending(l *held) {
	ls.mu.Lock()
	l.phase = settling
	extension := l.extension
	ls.mu.Unlock()
	if extension != nil {
		<-extension
	}
}

// waiting returns the messages that wait for a slot, or to be leased before that.
func (ls *leases) waiting() []*held {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.table.waiting)
}

// interrupt ends the contexts of all messages.
func (ls *leases) interrupt(cause error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.table.all() {
		l.cancel(cause)
	}
}

// clear drops what is still there when the subscription has ended.
func (ls *leases) clear() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range ls.table.all() {
		ls.drop(l)
	}
}

// empty returns a channel that is closed once all messages are settled or lost. No more may
// be added.
func (ls *leases) empty() <-chan struct{} {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.table.len() == 0 {
		return closedChannel()
	}
	ls.drained = make(chan struct{})
	return ls.drained
}

func (ls *leases) len() int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.table.len()
}
