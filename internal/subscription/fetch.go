package subscription

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// fetch claims messages while there is room for them, until ctx ends. A claim
// that has begun is finished: what a broken-off claim had leased would be
// invisible to everybody until its lease runs out.
func (s *subscription) fetch(ctx context.Context) {
	idle := backoff{min: s.config.PollMin, max: s.config.PollMax}
	failing := backoff{min: retryMin, max: retryMax}
	for {
		hold := s.leases.mayHold(ctx)
		limit, ok := s.leases.room(ctx)
		if !ok {
			return
		}
		if still, now := s.leases.wantHold(); still != hold || !now {
			continue // a hold was lost while there was no room
		}
		if rest := s.leases.resting(); rest > 0 {
			pause(ctx, rest, nil)
			continue
		}
		changed := s.store.Changed() // before the claim, so that no change is missed
		s.outage.ask()
		claim, err := s.obtain(limit, hold)
		s.outage.answered()
		if err != nil && s.final(err) {
			return
		}
		if err != nil {
			wait := failing.next()
			s.outage.failed(err, wait)
			pause(ctx, wait, nil)
			continue
		}
		failing.reset()
		s.outage.over()
		if len(claim.Leases) > 0 {
			idle.min = s.leases.gap()
			idle.reset()
		}
		if len(claim.Leases) == limit {
			continue
		}
		wait := idle.next()
		switch {
		case claim.Next == 0 && wait < 0:
			wait = retryMin // it is there, but somebody has locked it
		case claim.Next > 0 && (wait < 0 || claim.Next < wait):
			wait = claim.Next
		}
		pause(ctx, wait, changed)
	}
}

// obtain claims messages by holding them, if it can, or else by leasing them.
func (s *subscription) obtain(limit int, hold bool) (Claim, error) {
	if err := s.leases.tooManyRefused(); err != nil {
		s.config.Counters.claimed(0, err)
		return Claim{}, err
	}
	if hold {
		if claim, ok, err := s.hold(limit); ok {
			return claim, err
		}
	}
	if s.leases.mistrusts() {
		s.pending.begin()
		defer s.pending.end()
		if all, err := s.storeLate(); err != nil || !all {
			return Claim{Next: retryMin}, err
		}
	}
	return s.claim(limit)
}

// storeLate stores what lost holds have left, except what the next claim carries: no
// message may be claimed while its ack is under way, or it would be delivered again. It
// tries each once, and reports whether the claim carries all that are left.
func (s *subscription) storeLate() (all bool, err error) {
	ctx := context.Background()
	for calls := s.pending.len() / settleBatch; calls > 0 && err == nil; calls-- {
		err = s.send(ctx, s.pending, s.pending.take(settleBatch, true))
	}
	for err == nil {
		part := s.pending.takePart()
		if len(part) == 0 {
			break
		}
		err = s.send(ctx, s.pending, part)
	}
	return !s.pending.exceeds(settleBatch), err
}

func (s *subscription) claim(limit int) (Claim, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.OperationTimeout)
	defer cancel()
	batch := s.pending.take(settleBatch, s.leases.mistrusts()) // before it claims what a lost hold has left
	sent := time.Now()
	claim, err := s.store.Claim(ctx, batch, limit, s.config.Lease)
	if why, ok := errors.AsType[*Refusal](err); ok {
		if err := s.refused(ctx, s.pending, batch, why); err != nil {
			return Claim{}, err
		}
		if s.leases.mistrusts() {
			return Claim{}, nil // those come first
		}
		batch = nil
		claim, err = s.store.Claim(ctx, nil, limit, s.config.Lease)
	}
	s.config.Counters.claimed(len(claim.Leases), err)
	if err != nil {
		return Claim{}, cmp.Or(s.unanswered(s.pending, batch, err, len(batch) > 0 && ctx.Err() != nil), err)
	}
	s.stored(s.pending, batch, claim.Missed)
	s.leases.came(claim.Leases, sent)
	s.leases.add(s.leases.lease(s.parent, claim.Leases, sent))
	return claim, nil
}

// final reports whether err ends the subscription.
func (s *subscription) final(err error) bool {
	if s.config.Final == nil || !s.config.Final(err) {
		return false
	}
	s.config.Logger.Error("ezq: the subscription ends", "topic", s.config.Topic, "error", err)
	return true
}

// pause waits for d, or for ever if d is negative, or until woken or ctx ends.
func pause(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	var elapsed <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-elapsed:
	case <-woken:
	case <-ctx.Done():
	}
}

// backoff is a growing pause, from min to max, spread by ±20 % so that
// consumers do not move in step. Where max is 0, the pause is endless (-1).
type backoff struct {
	min, max time.Duration
	last     time.Duration
}

func (b *backoff) reset() { b.last = 0 }

func (b *backoff) next() time.Duration {
	if b.max == 0 {
		return -1
	}
	b.last = min(max(2*b.last, b.min), b.max)
	spread := b.last / 5
	return b.last - spread + rand.N(2*spread+1) //nolint:gosec // chance only spreads load, and may be guessed
}
