package subscription_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ezq-go/ezq/internal/subscription"
)

const (
	holding   method = "hold"
	finishing method = "finish"
)

// fakeHold is messages that a subscription holds, until it is finished or broken. It
// breaks when anybody interferes, and with every call that does not work.
type fakeHold struct {
	v      *view
	held   map[int64]subscription.Token
	broken bool
}

var errBroken = errors.New("the connection is lost, and its locks are")

// Hold implements [subscription.Holder].
func (v *view) Hold(ctx context.Context, limit int, _ time.Duration) (held subscription.Held, claim subscription.Claim, ok bool, err error) {
	if v.refuses.Load() {
		return nil, claim, false, nil
	}
	h := &fakeHold{v: v, held: map[int64]subscription.Token{}}
	err = v.suffer(ctx, &call{method: holding, limit: limit}, func() { claim = v.lock(h, limit) })
	if err != nil {
		v.breakUp(h)
		return nil, subscription.Claim{}, true, err
	}
	if v.polled {
		claim.Next = -1
	}
	if len(claim.Leases) == 0 {
		return nil, claim, true, nil
	}
	return h, claim, true, nil
}

func (s *fakeStore) lock(h *fakeHold, limit int) subscription.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	claim := subscription.Claim{Next: -1}
	now := time.Now()
	for _, m := range s.byVisibility() {
		if m.visible.After(now) {
			claim.Next = m.visible.Sub(now)
			break
		}
		if m.hold != nil || m.isLocked(h.v.who) || len(claim.Leases) == limit {
			continue
		}
		claim.Again = claim.Again || m.number > 0 || m.touched
		m.hold, m.touched = h, true
		s.stamp(m) // nobody else has a token for it from now on
		h.held[m.id] = m.token()
		s.note(event{kind: claimed, who: h.v.who, token: m.token(), held: true, failed: m.failures})
		given := s.handOut(m)
		given.Delivery.Number++
		claim.Leases = append(claim.Leases, given)
	}
	return claim
}

// Finish implements [subscription.Held].
func (h *fakeHold) Finish(ctx context.Context, acked, rest []subscription.Token, d time.Duration) (leased []subscription.Token, err error) {
	broken := false
	var refusal error
	err = h.v.suffer(ctx, &call{method: finishing, tokens: slices.Clone(acked), rest: slices.Clone(rest)}, func() {
		if refusal = h.v.refuseHeld(h, acked); refusal != nil {
			acked, rest = nil, slices.Concat(acked, rest)
		}
		leased, broken = h.v.unlock(h, acked, rest, d)
	})
	if broken && err == nil {
		err = errBroken
	}
	if err == nil && refusal != nil {
		return leased, refusal
	}
	if err != nil {
		h.v.breakUp(h)
		for _, token := range rest {
			h.v.note(event{kind: unheld, who: h.v.who, token: token})
		}
		return nil, err
	}
	return leased, nil
}

// refuseHeld returns why what was acked cannot be removed.
func (v *view) refuseHeld(h *fakeHold, acked []subscription.Token) error {
	v.fakeStore.mu.Lock()
	defer v.fakeStore.mu.Unlock()
	settle := make([]subscription.Settlement, len(acked))
	for i, token := range acked {
		settle[i] = ackOf(token)
	}
	if h.broken {
		return nil
	}
	return v.refuse(v.who, settle)
}

func (s *fakeStore) unlock(h *fakeHold, acked, rest []subscription.Token, d time.Duration) (leased []subscription.Token, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.broken {
		return nil, true
	}
	for _, token := range acked {
		s.note(event{kind: settled, who: h.v.who, token: token, result: accepted})
		s.apply(s.messages[token.ID], ackOf(token))
		delete(h.held, token.ID)
	}
	for _, token := range rest {
		m := s.messages[token.ID]
		m.hold = nil
		s.stamp(m)
		m.number++
		m.visible = time.Now().Add(d)
		s.note(event{kind: leasedNow, who: h.v.who, token: m.token(), before: token})
		leased = append(leased, m.token())
		delete(h.held, token.ID)
	}
	for id, token := range h.held {
		s.note(event{kind: settled, who: h.v.who, token: token, action: subscription.Release, result: accepted})
		s.messages[id].hold = nil
		s.change()
	}
	clear(h.held)
	return leased, false
}

// breakUp gives back what is still held.
func (s *fakeStore) breakUp(h *fakeHold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breakHold(h)
}

func (s *fakeStore) breakHold(h *fakeHold) {
	if h == nil || h.broken {
		return
	}
	h.broken = true
	for _, id := range slices.Sorted(maps.Keys(h.held)) {
		s.note(event{kind: expired, token: h.held[id]})
		s.messages[id].hold = nil
	}
	clear(h.held)
	s.change()
}

// touch makes a message one that somebody has held, and lost.
func (s *fakeStore) touch(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages[id].touched = true
}

// numberOf returns how often a message has been leased.
func (s *fakeStore) numberOf(id int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messages[id].number
}
