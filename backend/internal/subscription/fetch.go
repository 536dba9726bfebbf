package subscription

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// fetcher claims or locks messages while there is capacity for them. A call that has begun
// is finished: messages leased by a broken-off claim would be invisible to every consumer
// until their leases run out.
type fetcher struct {
	config  Config
	store   Store
	locker  *batchLocker
	leases  *leases
	settler *settler
	outage  *outage
}

// run fetches messages until ctx ends, or with an error that is final.
func (f *fetcher) run(ctx context.Context) {
	idle := backoff{min: f.config.PollMin, max: f.config.PollMax}
	failing := backoff{min: retryMin, max: retryMax}
	for {
		lock := f.leases.waitToLock(ctx)
		limit, ok := f.leases.toFetch(ctx)
		if !ok {
			return
		}
		if still, ready := f.leases.nextLock(); still != lock || !ready {
			continue // a lock was lost while there was no capacity
		}
		if rest := f.leases.untilRested(); rest > 0 {
			waitFor(ctx, rest, nil)
			continue
		}
		changed := f.store.Changed() // before the call, so that no change is missed
		f.outage.callBegins()
		claim, err := f.fetch(limit, lock)
		f.outage.callEnds()
		if err != nil && f.isFinal(err) {
			return
		}
		if err != nil {
			wait := failing.next()
			f.outage.failed(err, wait)
			waitFor(ctx, wait, nil)
			continue
		}
		failing.reset()
		f.outage.ended()
		if f.leases.isPaused() { // since the fetch began
			f.settler.releaseWaiting()
			continue
		}
		if len(claim.Leases) > 0 {
			idle.min = f.leases.pollGap()
			idle.reset()
		}
		if len(claim.Leases) == limit {
			continue
		}
		waitFor(ctx, untilNext(claim, &idle), changed)
	}
}

// untilNext is how long to wait after a fetch that brought fewer messages than asked for.
func untilNext(claim Claim, idle *backoff) time.Duration {
	wait := idle.next()
	switch {
	case claim.Next == 0 && wait < 0:
		return retryMin // it is there, but others have locked it
	case claim.Next > 0 && (wait < 0 || claim.Next < wait):
		return claim.Next
	}
	return wait
}

// fetch locks messages, if it can, or else claims them.
func (f *fetcher) fetch(limit int, lock bool) (Claim, error) {
	if err := f.leases.tooManyRefused(); err != nil {
		f.config.Counters.fetched(0, err)
		return Claim{}, err
	}
	if lock && !f.settler.settlements.mayBeSlow() {
		if claim, ok, err := f.locker.lock(limit); ok {
			return claim, err
		}
	}
	if f.leases.inLockCooldown() {
		f.settler.settlements.begin()
		defer f.settler.settlements.end()
		if all, err := f.settler.storeLate(); err != nil || !all {
			return Claim{Next: retryMin}, err
		}
	}
	return f.claim(limit)
}

// claim leases messages. It carries settlements along, unless the store was too slow for some of late. In
// the cooldown it carries, before it leases their messages, those that a lost lock has left.
func (f *fetcher) claim(limit int) (Claim, error) {
	queue := f.settler.settlements
	var batch []Settlement
	if f.leases.inLockCooldown() {
		batch = queue.takeUnleased(settleBatch, true)
	} else if !queue.mayBeSlow() {
		batch = queue.take(settleBatch)
	}
	timeout := f.config.OperationTimeout
	if len(batch) > 0 {
		timeout = f.settler.patience()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	sent := time.Now()
	claim, err := f.store.Claim(ctx, batch, limit, f.config.Lease)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		if err := f.settler.handleRefusal(ctx, queue, batch, refusal); err != nil {
			return Claim{}, err
		}
		if f.leases.inLockCooldown() {
			return Claim{}, nil // those come first
		}
		batch = nil
		claim, err = f.store.Claim(ctx, nil, limit, f.config.Lease)
	}
	f.config.Counters.fetched(len(claim.Leases), err)
	if err != nil {
		silent := f.settler.handleSilence(queue, batch, err, len(batch) > 0 && ctx.Err() != nil)
		return Claim{}, cmp.Or(silent, err)
	}
	f.settler.stored(queue, batch, claim.Missed)
	f.leases.observeSizes(claim.Leases, sent)
	f.leases.add(prepare(f.leases, claim.Leases, sent))
	return claim, nil
}

// isFinal reports whether err ends the subscription.
func (f *fetcher) isFinal(err error) bool {
	if f.config.Final == nil || !f.config.Final(err) {
		return false
	}
	f.config.Logger.Error("ezq: the subscription ends", "topic", f.config.Topic, "error", err)
	f.outage.final(err)
	return true
}
