package subscription

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// settle notes the outcome of a message and frees its slot. The outcome is
// noted first: once all slots are free, all outcomes are known. With SyncAck the
// slot is free once the outcome is stored.
func (s *subscription) settle(l *lease, outcome Settlement) {
	if s.leases.settleHeld(l, outcome) {
		return
	}
	outcome.Token = l.Token
	if s.config.SyncAck {
		s.leases.settling(l)
		s.note(outcome)
		return
	}
	s.note(outcome)
	s.leases.remove(l)
}

// release gives back a message that was never handed over.
func (s *subscription) release(l *lease) {
	defer l.cancel(nil)
	release := Settlement{Action: Release}
	if s.leases.leave(l) || s.leases.settleHeld(l, release) {
		return
	}
	release.Token = l.Token
	s.note(release)
	s.leases.remove(l)
}

func (s *subscription) note(outcome Settlement) {
	s.config.Counters.Unstored.Add(1)
	s.lane(outcome).add(outcome)
}

// lane returns where an outcome waits to be stored. Dead letters go to other queues, where
// they may have to wait, and nothing else waits for them.
func (s *subscription) lane(outcome Settlement) *pending {
	if outcome.Action == DeadLetter {
		return s.letters
	}
	return s.pending
}

// flush stores the outcomes of a lane until ctx ends. They wait for each other for as long
// as Linger allows, and for as long as the previous batch takes.
func (s *subscription) flush(ctx context.Context, lane *pending) {
	failing, log := backoff{min: retryMin, max: retryMax}, quiet{}
	for ctx.Err() == nil {
		if pause(ctx, lane.untilDue(), lane.added); ctx.Err() != nil {
			return
		}
		if s.config.Linger > 0 {
			pause(ctx, s.config.Linger, nil)
		}
		err := s.storeBatch(context.Background(), lane) // what has begun is finished
		if err == nil {
			failing.reset()
			log = quiet{}
			continue
		}
		wait := failing.next()
		if log.due(time.Now()) {
			s.config.Logger.Error("ezq: cannot store which messages are done; will try again",
				"topic", s.config.Topic, "retry_in", wait.Round(time.Millisecond).String(), "error", err)
		}
		pause(ctx, wait, nil)
	}
}

// flushAll stores what is left when the subscription ends.
func (s *subscription) flushAll() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	var letters sync.WaitGroup
	letters.Go(func() { s.flushLane(ctx, s.letters) })
	s.flushLane(ctx, s.pending)
	letters.Wait()
	s.flushLane(ctx, s.pending) // what has become of letters that were refused
}

func (s *subscription) flushLane(ctx context.Context, lane *pending) {
	failing := backoff{min: retryMin, max: retryMax}
	var err error
	for left := lane.len(); left > 0; left = lane.len() {
		if ctx.Err() != nil {
			s.config.Logger.Error("ezq: could not store what has become of messages; they will be delivered again",
				"topic", s.config.Topic, "messages", lane.messages(), "error", cmp.Or(err, lane.refusal()))
			s.config.Counters.Unstored.Add(-int64(left))
			lane.clear()
			return
		}
		if err = s.storeBatch(ctx, lane); err != nil {
			pause(ctx, failing.next(), nil)
		} else {
			pause(ctx, max(lane.untilDue(), 0), nil)
		}
	}
}

// storeBatch stores one batch of outcomes.
func (s *subscription) storeBatch(ctx context.Context, lane *pending) error {
	lane.begin()
	defer lane.end()
	return s.storeNext(ctx, lane)
}

// storeNext is storeBatch for whoever has begun. Of what is sent apart it stores one part:
// the others wait for no more than that.
func (s *subscription) storeNext(ctx context.Context, lane *pending) error {
	return cmp.Or(
		s.send(ctx, lane, lane.take(settleBatch, false)),
		s.send(ctx, lane, lane.takePart()),
		s.send(ctx, lane, lane.takeRefused()),
	)
}

func (s *subscription) send(ctx context.Context, lane *pending, batch []Settlement) error {
	if len(batch) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.config.OperationTimeout)
	defer cancel()
	missed, err := s.store.Settle(limited, batch)
	if why, ok := errors.AsType[*Refusal](err); ok {
		return s.refused(ctx, lane, batch, why)
	}
	if err != nil {
		return s.unanswered(lane, batch, err, limited.Err() != nil && ctx.Err() == nil)
	}
	s.stored(lane, batch, missed)
	return nil
}

// unanswered tries a batch again that has failed and was not refused. If the store was too slow, it may
// be because of one outcome. That is looked for by halves, as one that is refused would be, so that
// the others are stored, and no message is handled again whose ack waits for that. What is slow
// by itself is tried apart from the others until it is stored, and is no error any more.
func (s *subscription) unanswered(lane *pending, batch []Settlement, why error, slow bool) error {
	if !slow {
		lane.add(batch...)
		return why
	}
	if half := len(batch) / 2; half > 0 {
		s.leases.suspect(batch, why)
		lane.apart(batch[:half])
		lane.apart(batch[half:])
		return why
	}
	if batch[0].Action == Ack {
		batch[0].pause = refusedMax // its lease is extended between the tries: each may lock the message
		s.keepAcks(lane, batch, &Refusal{Cause: why})
	} else {
		batch[0].pause = 0 // no time counts in which the store has not refused it
		s.retry(lane, batch, &Refusal{Cause: why})
	}
	return nil
}

func (s *subscription) stored(lane *pending, batch []Settlement, missed Missed) {
	s.config.Counters.settled(batch, missed)
	busy, done := missed.divide(batch)
	lane.postpone(busy, backoff{min: busyMin, max: busyMax})
	s.leases.stored(done)
	if lost := len(missed.Lost); lost > 0 {
		s.config.Logger.Warn("ezq: messages were settled after their leases were lost; they are delivered again",
			"topic", s.config.Topic, "messages", lost)
	}
}

// refused has a batch of which the store refuses something sent in halves, until it is
// known what that is. Where it has refused many acks, it may be the fault of none of them: they are
// then refused together, but for one, which tells when the store takes acks again.
func (s *subscription) refused(ctx context.Context, lane *pending, batch []Settlement, why *Refusal) error {
	half := len(batch) / 2
	switch {
	case why.Whole || half == 0:
		s.refuse(lane, batch, why)
		return nil
	case s.leases.manyRefused() && allAcks(batch):
		s.keepAcks(lane, batch[1:], why)
		return s.send(ctx, lane, batch[:1])
	}
	s.leases.suspect(batch, why.Cause)
	lane.apart(batch[:half])
	lane.apart(batch[half:])
	return nil
}

// refuse does what is left to do for outcomes that the store refuses.
func (s *subscription) refuse(lane *pending, batch []Settlement, why *Refusal) {
	var acks, later []Settlement
	for _, outcome := range batch {
		switch {
		case outcome.Action == Ack:
			acks = append(acks, outcome)
		case why.MayPass && outcome.pause < refusedMax:
			later = append(later, outcome)
		default:
			s.amend(outcome, why)
		}
	}
	s.keepAcks(lane, acks, why)
	s.retry(lane, later, why)
}

func allAcks(batch []Settlement) bool {
	return !slices.ContainsFunc(batch, func(s Settlement) bool { return s.Action != Ack })
}

// keepAcks tries acks again that the store refuses, and goes on leasing their messages, which
// are done: each of them would be handled again for as long as the store refuses its ack.
func (s *subscription) keepAcks(lane *pending, acks []Settlement, why *Refusal) {
	if len(acks) == 0 {
		return
	}
	if more := s.leases.keepRefused(acks, why.Cause); more > 0 {
		s.config.Logger.Error("ezq: it cannot be stored that messages are done; they stay leased, and it is tried again",
			"topic", s.config.Topic, "messages", more, "id", acks[0].ID, "error", why.Cause)
	}
	lane.postponeRefused(acks, why.Cause)
}

// retry tries outcomes again that are no acks, and that the store may take as they are.
func (s *subscription) retry(lane *pending, outcomes []Settlement, why *Refusal) {
	for _, outcome := range outcomes {
		s.complain("ezq: what became of a message cannot be stored now; it is tried again", outcome, why)
	}
	lane.postponeRefused(outcomes, why.Cause)
}

// amend makes of an outcome that the store refuses what it may not refuse, or gives it up.
func (s *subscription) amend(outcome Settlement, why *Refusal) {
	switch {
	case outcome.Action == DeadLetter && !outcome.Bare && !why.Whole:
		outcome.Bare = true
	case outcome.Action == DeadLetter:
		s.complain("ezq: a dead letter cannot be moved; its message will be delivered again", outcome, why)
		outcome.Action, outcome.Bare = Nack, false
	case outcome.Action == Nack && !outcome.Bare:
		s.complain("ezq: the failures of a message cannot be stored; it will be delivered again without them", outcome, why)
		outcome.Bare = true
	default:
		s.complain("ezq: what became of a message cannot be stored; it will be delivered again", outcome, why)
		s.config.Counters.Unstored.Add(-1)
		s.leases.stored([]Settlement{outcome})
		return
	}
	if outcome.Bare {
		s.lane(outcome).apart([]Settlement{outcome})
		return
	}
	s.lane(outcome).add(outcome)
}

func (s *subscription) complain(text string, about Settlement, why *Refusal) {
	id := cmp.Or(excerpt.Of(about.UUID), strconv.FormatInt(about.ID, 10))
	sparse.Log(context.Background(), s.config.Logger, slog.LevelError, sparse.About{Text: text, Topic: s.config.Topic},
		"topic", s.config.Topic, "id", id, "error", why.Cause)
}
