package subscription

import (
	"context"
	"errors"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// hold is messages that are locked and not leased. What is acked while it lasts is
// removed with its end. The rest is leased then, and goes on like any other.
type hold struct {
	store Held
	sent  time.Time
	due   chan struct{} // holds a token when it should end at once,
	over  chan struct{} // closed when it has ended

	// The mutex of the leases guards what follows.

	all      []*lease
	open     int  // so many of all are with consumers, or wait for that
	enough   int  // so many may be, for it to end
	closed   bool // it is ending
	outcomes []outcome
}

// outcome is what becomes of a message of a hold.
type outcome struct {
	of *lease
	Settlement
}

// fate is what becomes of a message at the end of its hold.
type fate uint8

const (
	undecided fate = iota // it is leased
	removed               // it was acked in time
	left                  // it is given back
)

// hold claims messages by holding them. ok is false if the store cannot just now.
//
// If one of them may have been delivered before, all are leased before they are handed
// over, and so counted: it may be what ends its consumers' processes. The others would
// overtake it if they did not wait for that.
func (s *subscription) hold(limit int) (claim Claim, ok bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.OperationTimeout)
	defer cancel()
	sent := time.Now()
	held, claim, ok, err := s.holder.Hold(ctx, limit, s.config.Lease)
	if !ok {
		return Claim{}, false, nil
	}
	s.config.Counters.claimed(len(claim.Leases), err)
	if err != nil {
		s.leases.troubled()
	}
	if err != nil || held == nil {
		return claim, true, err
	}
	s.leases.came(claim.Leases, sent)
	if claim.Again {
		claim, err = s.leaseAtOnce(ctx, held, claim)
		return claim, true, err
	}
	h := &hold{store: held, sent: sent, due: make(chan struct{}, 1), over: make(chan struct{})}
	s.leases.addHeld(s.parent, h, claim.Leases)
	s.holds.Go(func() { s.keep(h) })
	return claim, true, nil
}

// keep ends a hold in time.
func (s *subscription) keep(h *hold) {
	timer := time.NewTimer(s.config.HoldFor)
	defer timer.Stop()
	select {
	case <-h.due:
	case <-timer.C:
	}
	s.finish(h)
}

// leaseAtOnce ends a hold before anything of it is handed over. All of it is leased.
func (s *subscription) leaseAtOnce(ctx context.Context, held Held, claim Claim) (Claim, error) {
	tokens := make([]Token, len(claim.Leases))
	for i, l := range claim.Leases {
		tokens[i] = l.Token
	}
	sent := time.Now()
	leased, err := held.Finish(ctx, nil, tokens, s.config.Lease)
	if err != nil {
		s.config.Counters.claimed(0, err)
		s.leases.troubled()
		return Claim{}, err
	}
	for i, token := range leased {
		claim.Leases[i].Token = token
	}
	s.leases.add(s.leases.lease(s.parent, claim.Leases, sent))
	return claim, nil
}

// finish ends a hold. If the store refuses to remove what was acked, that is leased, too. If
// the end fails, what was acked may still be there. Its outcome is
// then stored as that of a leased message: it counts unless somebody else has got the
// message since. The others are lost.
func (s *subscription) finish(h *hold) {
	acked, rest := s.leases.split(h)
	ctx, cancel := context.WithTimeout(context.Background(), s.config.OperationTimeout)
	defer cancel()
	sent := time.Now()
	leased, err := h.store.Finish(ctx, tokensOf(acked), tokensOf(rest), s.config.Lease)
	_, refused := errors.AsType[*Refusal](err)
	switch {
	case refused:
		s.leases.leased(h, append(acked, rest...), leased, 0, sent)
	case err != nil:
		s.config.Logger.Error("ezq: cannot store which messages are done; those that were being handled are delivered again",
			"topic", s.config.Topic, "messages", len(rest), "error", err)
		s.leases.broken(h)
	default:
		s.config.Counters.Acked.Add(int64(len(acked)))
		s.config.Counters.Unstored.Add(-int64(len(acked)))
		s.leases.leased(h, rest, leased, len(acked), sent)
	}
	s.noteLate(h, err == nil, err == nil || refused)
	close(h.over)
	s.leases.forget(h)
}

func tokensOf(rest []*lease) []Token {
	tokens := make([]Token, len(rest))
	for i, l := range rest {
		tokens[i] = l.Token
	}
	return tokens
}

// noteLate notes the outcomes that the end of a hold has not stored: those which came
// too late, and those which are more than an ack. If the messages are not ours any more,
// only acks count.
func (s *subscription) noteLate(h *hold, stored, ours bool) {
	for _, o := range h.outcomes {
		switch {
		case stored && o.of.fate == removed:
		case ours || o.Action == Ack:
			o.Token = o.of.Token
			s.lane(o.Settlement).add(o.Settlement)
		default: // a nack of a message that is with others already
			s.config.Counters.Unstored.Add(-1)
		}
	}
}

// Leased implements [Keeper].
func (l *lease) Leased(ctx context.Context) (Token, error) {
	h := l.all.leaseOnly(l)
	if h != nil {
		select {
		case <-h.over:
		case <-ctx.Done():
			return Token{}, context.Cause(ctx)
		}
	}
	return l.all.token(l)
}

func (ls *leases) leaseOnly(l *lease) *hold {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.only = true
	if l.hold != nil {
		signal(l.hold.due)
	}
	return l.hold
}

func (ls *leases) token(l *lease) (Token, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byID[l.ID] != l {
		return Token{}, backend.ErrLeaseLost
	}
	return l.Token, nil
}
