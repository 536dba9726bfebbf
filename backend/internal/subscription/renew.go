package subscription

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// renewer keeps the leases of all messages that a subscription has: one call to the store
// for all that are about due.
//
// Three things end a lease before its message is settled: the store says that another
// consumer has the message; the store cannot be reached until the lease has run out by our
// own clock; or the message has been handled for longer than MaxExtension. The message's
// context then ends with backend.ErrLeaseLost. If the message was removed although its lease
// was valid, it ends with backend.ErrCancelled.
type renewer struct {
	config  Config
	store   Store
	leases  *leases
	settler *settler

	groups   [][]*lease // to extend, each in one call
	calls    int        // since there was nothing to extend
	notUntil time.Time  // the next of them is extended: the store may have locked it for a call that was given up
	failures extensionFailures
}

// run extends leases until ctx ends.
func (r *renewer) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		if len(r.groups) == 0 {
			r.calls = 0
			waitFor(ctx, r.leases.untilCheck(now), r.leases.wakeRenewer)
		} else if wait := r.notUntil.Sub(now); wait > 0 {
			waitFor(ctx, sooner(wait, r.leases.untilCheck(now)), r.leases.wakeRenewer) // leases end meanwhile
		}
		due, undelivered := r.leases.due(time.Now())
		for _, l := range undelivered {
			r.settler.release(l)
		}
		r.plan(due)
		if len(r.groups) > 0 && !time.Now().Before(r.notUntil) {
			group := r.groups[0]
			r.groups = r.groups[1:]
			r.extend(group)
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
func (r *renewer) extend(group []*lease) {
	extension, sent := make(chan struct{}), time.Now()
	group, deadline := r.leases.beginExtension(group, extension, sent)
	if len(group) == 0 {
		return
	}
	r.calls++
	limited, cancel := context.WithDeadline(context.Background(), deadline)
	missed, err := r.store.Extend(limited, tokensOf(group), r.config.Lease)
	silent := limited.Err() != nil
	cancel()
	_, refused := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		lost, cancelled := r.leases.extended(group, missed, sent)
		if lost > 0 {
			r.config.Logger.Warn("ezq: leases were lost; other consumers have the messages, or they were removed",
				"topic", r.config.Topic, "messages", lost, "removed", len(missed.Gone)-len(cancelled))
		}
		r.logCancelled(cancelled)
	case (refused || silent) && len(group) > 1 && r.calls < maxExtensions:
		r.searchIn(group)
		if silent {
			r.notUntil = time.Now().Add(cancelTime)
		}
	default:
		r.failures.add(group, err)
		r.leases.extensionFailed(group, sent)
	}
	close(extension)
}

func (r *renewer) logCancelled(cancelled []*lease) {
	about := sparse.About{Text: "ezq: a message was cancelled while a consumer had it", Topic: r.config.Topic}
	for _, l := range cancelled {
		sparse.Log(context.Background(), r.config.Logger, slog.LevelInfo, about, "topic", r.config.Topic, "id", excerpt.Of(l.Message.UUID))
	}
}

// searchIn has the parts of a group extended.
func (r *renewer) searchIn(group []*lease) {
	r.leases.planExtension(group)
	r.groups = slices.AppendSeq(r.groups, slices.Chunk(group, partSize(len(group))))
}
