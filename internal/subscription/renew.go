package subscription

import (
	"context"
	"iter"
	"time"

	"github.com/ezq-go/ezq/internal/excerpt"
)

// renew keeps the leases of all messages that this subscription holds, until
// ctx ends: one call to the store for all that are about due.
//
// Three things end a lease before that: the store says that another consumer
// has the message; it cannot be reached until the lease has run out by our own
// clock; or the message has been handled for longer than MaxExtension. The
// message's context then ends with [backend.ErrLeaseLost].
func (s *subscription) renew(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, s.leases.untilDue(time.Now()), s.leases.gained)
		due, undelivered := s.leases.due(time.Now())
		for _, l := range undelivered {
			s.release(l)
		}
		if len(due) > 0 {
			s.extend(due)
		}
	}
}

func (s *subscription) extend(due []*lease) {
	sent := time.Now()
	deadline := sent.Add(min(s.config.OperationTimeout, s.config.Lease/3)) // leave time to try again
	tokens := make([]Token, len(due))
	for i, l := range due {
		tokens[i] = l.Token
		if l.expiry.Before(deadline) {
			deadline = l.expiry // or its context would outlive it
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	missed, err := s.store.Extend(ctx, tokens, s.config.Lease)
	if err != nil {
		s.config.Logger.Error("ezq: cannot extend leases; will try again until they run out",
			"topic", s.config.Topic, "messages", len(due), "error", err)
		s.leases.notExtended(due, sent)
		return
	}
	if n := s.leases.extended(due, missed, sent); n > 0 {
		s.config.Logger.Warn("ezq: leases were lost; other consumers have the messages, or they were removed",
			"topic", s.config.Topic, "messages", n, "removed", len(missed.Gone))
	}
}

// untilDue returns how long until the first lease needs attention, or -1 if
// nothing is held.
func (ls *leases) untilDue(now time.Time) time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	wait := time.Duration(-1)
	for l := range ls.each() {
		if l.phase == settling {
			continue
		}
		until := max(ls.attention(l).Sub(now), 0)
		if wait < 0 || until < wait {
			wait = until
		}
	}
	return wait
}

// each returns all messages that are leased.
func (ls *leases) each() iter.Seq[*lease] {
	return func(yield func(*lease) bool) {
		for _, all := range []map[int64]*lease{ls.byID, ls.refused} {
			for _, l := range all {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// attention is when l must be extended or given up.
func (ls *leases) attention(l *lease) time.Time {
	if l.hold != nil {
		return l.expiry
	}
	if end := ls.end(l); end.Before(l.renew) {
		return end
	}
	return l.renew
}

// end is when l is no longer extended: a handler has had it for MaxExtension,
// or it has waited for a slot for as long as a lease lasts. handOut sees to what
// waits to be received: only one of them can know that it was not.
func (ls *leases) end(l *lease) time.Time {
	switch l.phase {
	case waiting:
		return l.since.Add(ls.config.Lease)
	case delivered:
		return l.since.Add(ls.config.MaxExtension)
	default:
		return l.expiry
	}
}

// due drops the leases that have ended, and returns those to extend now and
// those to give back because nobody received them. What is due within a sixth
// of a lease is extended in the same go.
func (ls *leases) due(now time.Time) (extend, undelivered []*lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	soon := now.Add(ls.config.Lease / 6)
	extension := make(chan struct{})
	for l := range ls.each() {
		switch {
		case l.phase == settling:
		case !now.Before(l.expiry):
			ls.lose(l)
		case l.hold != nil:
		case now.Before(ls.end(l)):
			if l.renew.Before(soon) {
				l.extension = extension
				extend = append(extend, l)
			}
		case l.phase == delivered:
			ls.config.Logger.Error("ezq: message is being handled for too long; its lease is not extended any more",
				"topic", ls.config.Topic, "id", excerpt.Of(l.Message.UUID), "limit", ls.config.MaxExtension.String())
			ls.lose(l)
		default:
			ls.ignore(now)
			ls.drop(l)
			undelivered = append(undelivered, l)
		}
	}
	return extend, undelivered
}

// extended notes that the leases were extended at sent, except those that were missed,
// and returns how many are lost that were not settled in the meantime. A message that
// others have locked keeps the lease that it has, and is tried again before that ends.
func (ls *leases) extended(due []*lease, missed Missed, sent time.Time) (lost int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	close(due[0].extension)
	not := missed.again()
	for _, l := range due {
		switch again, missed := not[l.Token]; {
		case !missed:
			l.extended(sent, ls.config.Lease)
		case again:
			ls.extendSoon(l, time.Now())
		case ls.byID[l.ID] == l:
			ls.lose(l)
			lost++
		default:
			ls.lose(l) // it is settled, or its ack is refused
		}
	}
	return lost
}

// notExtended plans the next attempt.
func (ls *leases) notExtended(due []*lease, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	close(due[0].extension)
	for _, l := range due {
		ls.extendSoon(l, now)
	}
}

func (ls *leases) extendSoon(l *lease, now time.Time) {
	l.renew = now.Add(min(time.Second, ls.config.Lease/10))
	if l.expiry.Before(l.renew) {
		l.renew = l.expiry
	}
}

// settling notes that l is not to be extended any more, and waits for the extension
// that is under way: if it came after a nack, it would undo its delay.
func (ls *leases) settling(l *lease) {
	ls.mu.Lock()
	l.phase = settling
	extension := l.extension
	ls.mu.Unlock()
	if extension != nil {
		<-extension
	}
}

// ignored notes that a message is given back because nobody has received it.
func (ls *leases) ignored() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.ignore(time.Now())
}

// ignore lets other consumers go first, where nobody has received anything for
// so long: this subscription would be the first to claim what it gives back.
func (ls *leases) ignore(now time.Time) {
	if now.Sub(ls.taken) >= ls.config.Lease {
		ls.rest = now.Add(max(restMin, 2*ls.config.PollMax))
	}
}

// resting returns for how long not to claim.
func (ls *leases) resting() time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return time.Until(ls.rest)
}
