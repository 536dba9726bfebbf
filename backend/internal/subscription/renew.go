package subscription

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/ezq-go/ezq/internal/excerpt"
)

// renewer keeps the leases of all messages that a subscription has: one call to the store
// for all that are about due.
//
// Three things end a lease before its message is settled: the store says that another
// consumer has the message; the store cannot be reached until the lease has run out by our
// own clock; or the message has been handled for longer than MaxExtension. The message's
// context then ends with backend.ErrLeaseLost.
type renewer struct {
	config  Config
	store   Store
	leases  *leases
	settler *settler

	groups   [][]*lease // to extend, each in one call
	calls    int        // since there was nothing to extend
	failures extensionFailures
}

// run extends leases until ctx ends.
func (r *renewer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if len(r.groups) == 0 {
			r.calls = 0
			pause(ctx, r.untilCheck(time.Now()), r.leases.wakeRenewer)
		}
		due, undelivered := r.due(time.Now())
		for _, l := range undelivered {
			r.settler.release(l)
		}
		r.plan(due)
		if len(r.groups) > 0 {
			group := r.groups[0]
			r.groups = r.groups[1:]
			r.extend(ctx, group)
			r.failures.log(r.config, len(r.groups) > 0)
		}
	}
}

// plan has leases extended: first those of which nothing is suspected, and last those that could
// not be extended by themselves.
func (r *renewer) plan(due []*lease) {
	var first, last []*lease
	for _, l := range due {
		if l.failedAlone {
			last = append(last, l)
		} else {
			first = append(first, l)
		}
	}
	if len(first) > 0 {
		r.groups = slices.Insert(r.groups, 0, first)
	}
	if len(last) > 0 {
		r.groups = append(r.groups, last)
	}
}

// extend extends the leases of a group in one call. If the store refuses that, or is silent, a few
// of them may be the reason. They are searched for in parts, so that only they are lost.
func (r *renewer) extend(ctx context.Context, group []*lease) {
	group, extension := r.beginExtension(group)
	if len(group) == 0 {
		return
	}
	r.calls++
	sent := time.Now()
	limited, cancel := context.WithDeadline(context.Background(), r.deadline(group, sent))
	missed, err := r.store.Extend(limited, tokensOf(group), r.config.Lease)
	silent := limited.Err() != nil
	cancel()
	_, refused := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		if n := r.extended(group, missed, sent); n > 0 {
			r.config.Logger.Warn("ezq: leases were lost; other consumers have the messages, or they were removed",
				"topic", r.config.Topic, "messages", n, "removed", len(missed.Gone))
		}
	case (refused || silent) && len(group) > 1 && r.calls < maxExtensions:
		r.searchIn(group)
		if silent {
			defer pause(ctx, cancelTime, nil)
		}
	default:
		r.failures.add(group, err)
		r.extensionFailed(group, sent)
	}
	close(extension)
}

// deadline returns until when a call may take that extends the leases of a group: a quarter of the
// time that they have left, so that all parts have their turn. It ends before any lease does, or
// the context of that message would outlive it.
func (r *renewer) deadline(group []*lease, sent time.Time) time.Time {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	patience := r.config.OperationTimeout
	for _, l := range group {
		patience = min(patience, l.expiresAt.Sub(sent)/4)
	}
	deadline := sent.Add(patience)
	for l := range r.all() {
		if l.phase != settling && l.expiresAt.Before(deadline) {
			deadline = l.expiresAt
		}
	}
	return deadline
}

// searchIn has the parts of a group extended.
func (r *renewer) searchIn(group []*lease) {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range group {
		l.planned = true
	}
	r.groups = slices.AppendSeq(r.groups, slices.Chunk(group, partSize(len(group))))
}

// beginExtension returns those of a group that are still to be extended, and what is to be closed
// when that is no longer under way.
func (r *renewer) beginExtension(group []*lease) (live []*lease, extension chan struct{}) {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	extension = make(chan struct{})
	now := time.Now()
	for _, l := range group {
		l.planned = false
		if l.phase != settling && now.Before(l.expiresAt) && (ls.table.contains(l) || ls.refused.contains(l)) {
			l.extension = extension
			live = append(live, l)
		}
	}
	return live, extension
}

// untilCheck returns how long until the first lease needs attention, or -1 if
// there is none.
func (r *renewer) untilCheck(now time.Time) time.Duration {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	wait := time.Duration(-1)
	for l := range r.all() {
		if l.phase == settling {
			continue
		}
		wait = sooner(wait, max(l.checkAt().Sub(now), 0))
	}
	return wait
}

// all returns all messages that are leased.
func (r *renewer) all() iter.Seq[*lease] {
	return func(yield func(*lease) bool) {
		for _, all := range []iter.Seq[*lease]{r.leases.table.all(), r.leases.refused.all()} {
			for l := range all {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// due drops the leases that have ended, and returns those to extend now and
// those to release because they were not received. Leases due within a sixth of
// a lease are extended in the same go, but for those whose last extension has failed.
func (r *renewer) due(now time.Time) (extend, undelivered []*lease) {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for l := range r.all() {
		switch {
		case l.phase == settling:
		case !now.Before(l.expiresAt):
			ls.lose(l)
		case l.batch != nil:
		case now.Before(l.end()):
			if l.isDue(now) && !l.planned {
				l.planned = true
				extend = append(extend, l)
			}
		case l.phase == delivered:
			ls.config.Logger.Error("ezq: message is being handled for too long; its lease is not extended any more",
				"topic", ls.config.Topic, "id", excerpt.Of(l.Message.UUID), "limit", ls.config.MaxExtension.String())
			ls.lose(l)
		default:
			ls.rest.notReceived(now)
			ls.drop(l)
			undelivered = append(undelivered, l)
		}
	}
	return extend, undelivered
}

// extended records that the leases were extended at sent, except those that were missed,
// and returns how many are lost that were not settled in the meantime. A message that
// others have locked keeps the lease that it has, and is tried again before that ends.
func (r *renewer) extended(due []*lease, missed Missed, sent time.Time) (lost int) {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	retryable := missed.retryable()
	for _, l := range due {
		switch retry, missed := retryable[l.Token]; {
		case !missed:
			l.extended(sent, ls.config.Lease)
		case retry:
			l.retryExtension(time.Now(), l.busyPause())
		case ls.table.contains(l):
			ls.lose(l)
			lost++
		default:
			ls.lose(l) // it is settled, or its ack is refused
		}
	}
	return lost
}

// extensionFailed plans the next attempt.
func (r *renewer) extensionFailed(due []*lease, now time.Time) {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range due {
		l.failedAlone = len(due) == 1
		if l.failedAlone && l.phase == ackRefused {
			l.retryExtension(now, refusedMax) // nothing of it can be stored, perhaps for ever
		} else {
			l.retryExtension(now, time.Second)
		}
	}
}
