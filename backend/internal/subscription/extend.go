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

// extender keeps the leases of all messages that a subscription has: one call to the store
// for all that are about due.
//
// Three things end a lease before its message is settled: the store says that another
// consumer has the message; the store cannot be reached until the lease has run out by our
// own clock; or the message has been handled for longer than MaxExtension. The message's
// context then ends with backend.ErrLeaseLost. If the message was removed although its lease
// was valid, it ends with backend.ErrCancelled.
type extender struct {
	config  Config
	store   Store
	leases  *leases
	settler *settler

	groups   [][]*held // to extend, each in one call
	calls    int       // since there was nothing to extend
	notUntil time.Time // the next of them is extended: the store may have locked it for a call that was given up
	failures extensionFailures
}

// run extends leases until ctx ends.
func (e *extender) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		if len(e.groups) == 0 {
			e.calls = 0
			waitFor(ctx, e.leases.untilCheck(now), e.leases.wakeExtender)
		} else if wait := e.notUntil.Sub(now); wait > 0 {
			waitFor(ctx, sooner(wait, e.leases.untilCheck(now)), e.leases.wakeExtender) // leases end meanwhile
		}
		due, undelivered := e.leases.due(time.Now())
		for _, l := range undelivered {
			e.settler.release(l)
		}
		e.plan(due)
		if len(e.groups) > 0 && !time.Now().Before(e.notUntil) {
			group := e.groups[0]
			e.groups = e.groups[1:]
			e.extend(group)
			e.failures.log(e.config, len(e.groups) > 0)
		}
	}
}

// plan has leases extended: first those of which nothing is suspected, and last those that could
// not be extended by themselves.
func (e *extender) plan(due []*held) {
	var first, last []*held
	for _, l := range due {
		if l.failedAlone {
			last = append(last, l)
		} else {
			first = append(first, l)
		}
	}
	if len(first) > 0 {
		e.groups = slices.Insert(e.groups, 0, first)
	}
	if len(last) > 0 {
		e.groups = append(e.groups, last)
	}
}

// extend extends the leases of a group in one call. If the store refuses that, or is silent, a few
// of them may be the reason. They are searched for in parts, so that only they are lost.
func (e *extender) extend(group []*held) {
	extension, sent := make(chan struct{}), time.Now()
	group, deadline := e.leases.beginExtension(group, extension, sent)
	if len(group) == 0 {
		return
	}
	e.calls++
	limited, cancel := context.WithDeadline(context.Background(), deadline)
	missed, err := e.store.Extend(limited, tokensOf(group), e.config.Lease)
	silent := limited.Err() != nil
	cancel()
	_, refused := errors.AsType[*Refusal](err)
	switch {
	case err == nil:
		lost, cancelled := e.leases.extended(group, missed, sent)
		if lost > 0 {
			e.config.Logger.Warn("ezq: leases were lost; other consumers have the messages, or they were removed",
				"topic", e.config.Topic, "messages", lost, "removed", len(missed.Gone)-len(cancelled))
		}
		e.logCancelled(cancelled)
	case (refused || silent) && len(group) > 1 && e.calls < maxExtensions:
		e.searchIn(group)
		if silent {
			e.notUntil = time.Now().Add(cancelTime)
		}
	default:
		e.failures.add(group, err)
		e.leases.extensionFailed(group, sent)
	}
	close(extension)
}

func (e *extender) logCancelled(cancelled []*held) {
	about := sparse.About{Text: "ezq: a message was cancelled while a consumer had it", Topic: e.config.Topic}
	for _, l := range cancelled {
		sparse.Log(context.Background(), e.config.Logger, slog.LevelInfo, about, "topic", e.config.Topic, "id", excerpt.Of(l.Message.UUID))
	}
}

// searchIn has the parts of a group extended.
func (e *extender) searchIn(group []*held) {
	e.leases.planExtension(group)
	e.groups = slices.AppendSeq(e.groups, slices.Chunk(group, partSize(len(group))))
}
