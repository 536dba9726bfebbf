package subscription

import (
	"context"
	"iter"
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
}

// run extends leases until ctx ends.
func (r *renewer) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, r.untilCheck(time.Now()), r.leases.wakeRenewer)
		due, undelivered := r.due(time.Now())
		for _, l := range undelivered {
			r.settler.release(l)
		}
		if len(due) > 0 {
			r.extend(due)
		}
	}
}

func (r *renewer) extend(due []*lease) {
	sent := time.Now()
	deadline := sent.Add(min(r.config.OperationTimeout, r.config.Lease/3)) // leave time to try again
	tokens := make([]Token, len(due))
	for i, l := range due {
		tokens[i] = l.Token
		if l.expiresAt.Before(deadline) {
			deadline = l.expiresAt // or its context would outlive it
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	missed, err := r.store.Extend(ctx, tokens, r.config.Lease)
	if err != nil {
		r.config.Logger.Error("ezq: cannot extend leases; will try again until they run out",
			"topic", r.config.Topic, "messages", len(due), "error", err)
		r.extensionFailed(due, sent)
		return
	}
	if n := r.extended(due, missed, sent); n > 0 {
		r.config.Logger.Warn("ezq: leases were lost; other consumers have the messages, or they were removed",
			"topic", r.config.Topic, "messages", n, "removed", len(missed.Gone))
	}
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
		until := max(l.checkAt().Sub(now), 0)
		if wait < 0 || until < wait {
			wait = until
		}
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
// those to release because they were not received. What is due within a sixth
// of a lease is extended in the same go.
func (r *renewer) due(now time.Time) (extend, undelivered []*lease) {
	ls := r.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	soon := now.Add(ls.config.Lease / 6)
	extension := make(chan struct{})
	for l := range r.all() {
		switch {
		case l.phase == settling:
		case !now.Before(l.expiresAt):
			ls.lose(l)
		case l.batch != nil:
		case now.Before(l.end()):
			if l.renewAt.Before(soon) {
				l.extension = extension
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
	close(due[0].extension)
	retryable := missed.retryable()
	for _, l := range due {
		switch retry, missed := retryable[l.Token]; {
		case !missed:
			l.extended(sent, ls.config.Lease)
		case retry:
			l.retryExtension(time.Now())
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
	close(due[0].extension)
	for _, l := range due {
		l.retryExtension(now)
	}
}
