package subscription

import (
	"context"
	"slices"
	"sync"
	"time"
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
	s.pending.add(outcome)
}

// flush stores outcomes until ctx ends. They wait for each other for as long
// as Linger allows, and for as long as the previous batch takes.
func (s *subscription) flush(ctx context.Context) {
	failing := backoff{min: retryMin, max: retryMax}
	for ctx.Err() == nil {
		if pause(ctx, s.pending.untilAgain(), s.pending.added); ctx.Err() != nil {
			return
		}
		if s.config.Linger > 0 {
			pause(ctx, s.config.Linger, nil)
		}
		err := s.storeBatch(context.Background()) // what has begun is finished
		if err == nil {
			failing.reset()
			continue
		}
		wait := failing.next()
		s.config.Logger.Error("ezq: cannot store which messages are done; will try again",
			"topic", s.config.Topic, "retry_in", wait.Round(time.Millisecond).String(), "error", err)
		pause(ctx, wait, nil)
	}
}

// flushAll stores what is left when the subscription ends.
func (s *subscription) flushAll() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	failing := backoff{min: retryMin, max: retryMax}
	var err error
	for left := s.pending.len(); left > 0; left = s.pending.len() {
		if ctx.Err() != nil {
			s.config.Logger.Error("ezq: could not store which messages are done; they will be delivered again",
				"topic", s.config.Topic, "messages", left, "error", err)
			s.config.Counters.Unstored.Add(-int64(left))
			return
		}
		if err = s.storeBatch(ctx); err != nil {
			pause(ctx, failing.next(), nil)
		} else {
			pause(ctx, max(s.pending.untilAgain(), 0), nil) // for what others have locked
		}
	}
}

// storeBatch stores one batch of outcomes.
func (s *subscription) storeBatch(ctx context.Context) error {
	s.pending.begin()
	defer s.pending.end()
	return s.storeNext(ctx)
}

// storeNext is storeBatch for whoever has begun.
func (s *subscription) storeNext(ctx context.Context) error {
	batch := s.pending.take(settleBatch, false)
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.OperationTimeout)
	defer cancel()
	missed, err := s.store.Settle(ctx, batch)
	if err != nil {
		s.pending.restore(batch)
		return err
	}
	s.stored(batch, missed)
	return nil
}

func (s *subscription) stored(batch []Settlement, missed Missed) {
	s.config.Counters.settled(batch, missed)
	s.leases.stored(s.pending.postpone(batch, missed))
	if lost := len(missed.Lost); lost > 0 {
		s.config.Logger.Warn("ezq: messages were settled after their leases were lost; they are delivered again",
			"topic", s.config.Topic, "messages", lost)
	}
}

// pending is the outcomes that are not stored yet.
type pending struct {
	added chan struct{} // holds a token when there may be something to store
	turn  chan struct{} // holds a token while nobody stores anything

	mu    sync.Mutex
	queue []Settlement
	busy  []Settlement // of messages that others had locked
	again time.Time    // when to try those again
	tries backoff
}

// busyMin and busyMax bound the pause before an outcome is tried again whose message was
// locked.
const (
	busyMin = 10 * time.Millisecond
	busyMax = time.Second
)

func newPending() *pending {
	p := &pending{added: make(chan struct{}, 1), turn: make(chan struct{}, 1), tries: backoff{min: busyMin, max: busyMax}}
	p.end()
	return p
}

// begin waits until nothing that was taken is under way, and keeps others from taking
// anything until end. A claim that carries outcomes does without, unless a hold was lost.
func (p *pending) begin() { <-p.turn }

func (p *pending) end() { p.turn <- struct{}{} }

func (p *pending) add(s Settlement) {
	p.mu.Lock()
	p.queue = append(p.queue, s)
	p.mu.Unlock()
	signal(p.added)
}

// take removes up to n outcomes, oldest first, and before them those that are to be tried
// again now, or with early sooner than that.
func (p *pending) take(n int, early bool) (batch []Settlement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if early || p.isAgain() {
		batch, p.busy = cut(p.busy, n)
	}
	var first []Settlement
	first, p.queue = cut(p.queue, n-len(batch))
	if len(p.queue) > 0 {
		signal(p.added)
	}
	return append(batch, first...)
}

// cut moves up to n outcomes from the front of queue to a slice of their own.
func cut(queue []Settlement, n int) (front, rest []Settlement) {
	n = min(n, len(queue))
	return slices.Clone(queue[:n]), append(queue[:0], queue[n:]...)
}

// postpone keeps those of batch that are to be tried again, for a moment, and returns the
// others.
func (p *pending) postpone(batch []Settlement, missed Missed) (done []Settlement) {
	if len(missed.Busy) == 0 {
		return batch
	}
	again := missed.again()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.busy) == 0 || p.isAgain() {
		if time.Since(p.again) > busyMax {
			p.tries.reset() // those of last time are stored
		}
		p.again = time.Now().Add(p.tries.next())
	}
	for _, outcome := range batch {
		if again[outcome.Token] {
			p.busy = append(p.busy, outcome)
		} else {
			done = append(done, outcome)
		}
	}
	signal(p.added) // flush has to know when
	return done
}

// untilAgain returns how long until there is something to try again, or -1 if there is not.
func (p *pending) untilAgain() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.busy) == 0 {
		return -1
	}
	return max(time.Until(p.again), 0)
}

// isAgain reports whether there is something to try again now.
func (p *pending) isAgain() bool { return len(p.busy) > 0 && !time.Now().Before(p.again) }

// restore puts back what could not be stored.
func (p *pending) restore(batch []Settlement) {
	if len(batch) == 0 {
		return
	}
	p.mu.Lock()
	p.queue = append(batch, p.queue...)
	p.mu.Unlock()
	signal(p.added)
}

// len returns how many outcomes are not stored, and ready how many can be tried now.
func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) + len(p.busy)
}

func (p *pending) ready() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isAgain() {
		return len(p.queue) + len(p.busy)
	}
	return len(p.queue)
}

// signal leaves a token in c, which has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
