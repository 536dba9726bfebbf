package subscription_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

const (
	locking   method = "hold" // is part of the seeds
	finishing method = "finish"
)

// fakeLockedBatch is messages that a subscription has locked, until the lock is finished or
// broken. It breaks with every interference, and with every call that does not work.
type fakeLockedBatch struct {
	v      *storeView
	tokens map[int64]subscription.Token
	broken bool
}

var errBroken = errors.New("the connection is lost, and its locks with it")

// Lock implements [subscription.Locker].
func (v *storeView) Lock(ctx context.Context, limit int, _ time.Duration) (batch subscription.LockedBatch, claim subscription.Claim, ok bool, err error) {
	if v.locksNothing.Load() {
		return nil, claim, false, nil
	}
	b := &fakeLockedBatch{v: v, tokens: map[int64]subscription.Token{}}
	err = v.perform(ctx, &call{method: locking, limit: limit}, func() { claim = v.lock(b, limit) })
	if err != nil {
		v.loseLocks(b)
		return nil, subscription.Claim{}, true, err
	}
	if v.polled {
		claim.Next = -1
	}
	if len(claim.Leases) == 0 {
		return nil, claim, true, nil
	}
	return b, claim, true, nil
}

func (s *fakeStore) lock(b *fakeLockedBatch, limit int) subscription.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim := subscription.Claim{Next: -1}
	now := time.Now()
	for _, m := range s.byVisibility() {
		if m.visible.After(now) {
			claim.Next = m.visible.Sub(now)
			break
		}
		if m.lockedBatch != nil || m.isLocked(b.v.subscriber) || s.passedBy[m.id] || len(claim.Leases) == limit {
			continue
		}
		claim.Redelivered = claim.Redelivered || m.number > 0 || m.lockedBefore
		m.lockedBatch, m.lockedBefore = b, true
		s.stamp(m) // only this subscription has a token for it from now on
		b.tokens[m.id] = m.token()
		s.record(event{kind: claimed, subscriber: b.v.subscriber, token: m.token(), locked: true, failures: m.failures})
		given := s.leaseOf(m)
		given.Delivery.Number++
		claim.Leases = append(claim.Leases, given)
	}
	return claim
}

// Finish implements [subscription.LockedBatch].
func (b *fakeLockedBatch) Finish(ctx context.Context, acked, rest []subscription.Token, d time.Duration) (leased []subscription.Token, err error) {
	broken := false
	var refusal error
	err = b.v.perform(ctx, &call{method: finishing, tokens: slices.Clone(acked), rest: slices.Clone(rest)}, func() {
		if refusal = b.v.refuseLocked(b, acked); refusal != nil {
			acked, rest = nil, slices.Concat(acked, rest)
		}
		leased, broken = b.v.unlock(b, acked, rest, d)
	})
	if broken && err == nil {
		err = errBroken
	}
	if err == nil && refusal != nil {
		return leased, refusal
	}
	if err != nil {
		b.v.loseLocks(b)
		for _, token := range rest {
			b.v.record(event{kind: lockLost, subscriber: b.v.subscriber, token: token})
		}
		return nil, err
	}
	return leased, nil
}

// refuseLocked returns why what was acked cannot be removed.
func (v *storeView) refuseLocked(b *fakeLockedBatch, acked []subscription.Token) error {
	v.fakeStore.mu.Lock()
	defer v.fakeStore.mu.Unlock()
	settle := make([]subscription.Settlement, len(acked))
	for i, token := range acked {
		settle[i] = ackOf(token)
	}
	if b.broken {
		return nil
	}
	return v.refuse(v.subscriber, settle)
}

func (s *fakeStore) unlock(b *fakeLockedBatch, acked, rest []subscription.Token, d time.Duration) (leased []subscription.Token, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.broken {
		return nil, true
	}
	for _, token := range acked {
		s.record(event{kind: settled, subscriber: b.v.subscriber, token: token, result: accepted})
		s.apply(s.messages[token.ID], ackOf(token))
		delete(b.tokens, token.ID)
	}
	for _, token := range rest {
		m := s.messages[token.ID]
		m.lockedBatch = nil
		delete(b.tokens, token.ID)
		if s.leavesUnchanged(m.id) {
			s.passedBy[m.id] = true
			s.record(event{kind: expired, token: token})
			s.record(event{kind: lockLost, subscriber: b.v.subscriber, token: token})
			leased = append(leased, subscription.Token{})
			continue
		}
		s.stamp(m)
		m.number++
		m.visible = time.Now().Add(d)
		s.record(event{kind: leasedAfterLock, subscriber: b.v.subscriber, token: m.token(), before: token})
		leased = append(leased, m.token())
	}
	for id, token := range b.tokens {
		s.record(event{kind: settled, subscriber: b.v.subscriber, token: token, action: subscription.Release, result: accepted})
		s.messages[id].lockedBatch = nil
		s.signalChange()
	}
	clear(b.tokens)
	return leased, false
}

// loseLocks releases what is still locked.
func (s *fakeStore) loseLocks(b *fakeLockedBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breakLocks(b)
}

func (s *fakeStore) breakLocks(b *fakeLockedBatch) {
	if b == nil || b.broken {
		return
	}
	b.broken = true
	for _, id := range slices.Sorted(maps.Keys(b.tokens)) {
		s.record(event{kind: expired, token: b.tokens[id]})
		s.messages[id].lockedBatch = nil
	}
	clear(b.tokens)
	s.signalChange()
}

// markLocked makes a message one that was locked, and whose lock was lost.
func (s *fakeStore) markLocked(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages[id].lockedBefore = true
}

// numberOf returns how often a message has been leased.
func (s *fakeStore) numberOf(id int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messages[id].number
}
