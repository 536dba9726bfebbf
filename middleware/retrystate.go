package middleware

import (
	"context"
	"errors"

	"github.com/ezq-go/ezq/ezq"
)

// retryState is one message on its way through a Retry. It travels in the message's
// context, so that a Poison inside of the Retry can ask what the Retry is going
// to say: their order does not matter.
type retryState struct {
	attempts  int
	failures  int  // before the attempt that is being made
	overruled bool // there is another Retry further in, and it decides
}

type retryStateKey struct{}

// newRetryState begins a trial, which overrules the one in ctx.
func newRetryState(ctx context.Context, attempts int) *retryState {
	if outer := retryStateFrom(ctx); outer != nil {
		outer.overruled = true
	}
	state := &retryState{attempts: attempts}
	if d := deliveryWithProgress(ctx); d != nil {
		state.failures = d.Failures
	}
	return state
}

func retryStateFrom(ctx context.Context) *retryState {
	state, _ := ctx.Value(retryStateKey{}).(*retryState)
	return state
}

// final reports whether a message that has just failed with err is not to be
// tried again.
func (state *retryState) final(err error) bool {
	return ezq.IsPermanent(err) || !state.overruled && state.failures >= state.attempts-1
}

// exhaustedError is a final failure as Retry returns it. It reads like the
// failure itself.
type exhaustedError struct {
	error
	failures int
}

func (e *exhaustedError) Unwrap() error { return e.error }

// isFinal reports whether err, with which a handler has failed in ctx, is final:
// says the Retry inside, which has marked it, or the Retry outside. If there is
// none, only what the handler has marked is final.
func isFinal(ctx context.Context, err error) bool {
	if state := retryStateFrom(ctx); state != nil {
		return state.final(err)
	}
	return ezq.IsPermanent(err)
}

// failuresOf returns how often a message has failed that has just failed with
// err.
func failuresOf(ctx context.Context, err error) int {
	if e, ok := errors.AsType[*exhaustedError](err); ok {
		return e.failures
	}
	if d := deliveryWithProgress(ctx); d != nil {
		return d.Failures + 1
	}
	if state := retryStateFrom(ctx); state != nil {
		return state.failures + 1
	}
	return 1
}
