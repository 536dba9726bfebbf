package ezq

import (
	"context"
	"errors"
	"time"
)

// lifecycle answers three questions: may messages be fetched, may handlers begin with
// what was fetched, and may handlers that run go on? A run has one. Each of its consumers
// has another one within that, which may end earlier.
type lifecycle struct {
	fetching context.Context
	starting context.Context
	working  context.Context

	cancelFetching context.CancelCauseFunc
	cancelStarting context.CancelCauseFunc
	cancelWorking  context.CancelCauseFunc
}

func newLifecycle(ctx context.Context) *lifecycle {
	l := &lifecycle{}
	l.starting, l.cancelStarting = context.WithCancelCause(ctx)
	l.fetching, l.cancelFetching = context.WithCancelCause(l.starting)
	l.working, l.cancelWorking = context.WithCancelCause(context.WithoutCancel(ctx))
	return l
}

// ofConsumer returns the lifecycle of one consumer. Handlers go on as long as l lets them.
func (l *lifecycle) ofConsumer() *lifecycle {
	child := &lifecycle{working: l.working, cancelWorking: l.cancelWorking}
	child.starting, child.cancelStarting = context.WithCancelCause(l.starting)
	child.fetching, child.cancelFetching = context.WithCancelCause(l.fetching)
	return child
}

// stopFetching ends fetching. Handlers begin with what was fetched. The first reason
// of a run to stop counts.
func (l *lifecycle) stopFetching(reason error) { l.cancelFetching(reason) }

// stopStarting ends fetching, and events that no handler has begun with are
// released.
func (l *lifecycle) stopStarting(reason error) {
	l.cancelStarting(reason)
	l.cancelFetching(reason)
}

// interrupt ends the contexts of the handlers that run.
func (l *lifecycle) interrupt(cause error) { l.cancelWorking(cause) }

// reason returns why fetching ended. If the context of the run has ended, handlers
// may go on for drainTimeout.
func (l *lifecycle) reason(drainTimeout time.Duration) *stopReason {
	if reason, ok := errors.AsType[*stopReason](context.Cause(l.fetching)); ok {
		return reason
	}
	return &stopReason{timeout: drainTimeout}
}

// stopReason is why a run stops.
type stopReason struct {
	err     error         // what Run returns
	timeout time.Duration // how long handlers may go on
}

func (s *stopReason) Error() string { return "ezq: stopping" }
