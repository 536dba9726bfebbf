package conformance

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ezq-go/ezq/ezq"
)

// interruptedHandler is a handler whose first event takes until its context ends. The events
// after it are handled at once.
type interruptedHandler struct {
	begun  chan struct{} // closed when the first event is handled
	causes chan error    // receives the cause that ended its context
	again  chan ezq.Meta // receives the deliveries after it

	once atomic.Bool
}

func newInterruptedHandler() *interruptedHandler {
	return &interruptedHandler{begun: make(chan struct{}), causes: make(chan error, 1), again: make(chan ezq.Meta, 100)}
}

func (i *interruptedHandler) handle(ctx context.Context, _ visit) error {
	if i.once.Swap(true) {
		i.again <- ezq.MetaFromContext(ctx)
		return nil
	}
	close(i.begun)
	<-ctx.Done()
	i.causes <- context.Cause(ctx)
	return ctx.Err()
}

// requireInterruptedBy ends the case unless a router has interrupted the handler, and ended
// with that error.
func (i *interruptedHandler) requireInterruptedBy(r *runningRouter, want error) {
	cause := next(r.h, i.causes, "the context of the handler did not end")
	r.h.require(errors.Is(cause, ezq.ErrInterrupted), "the context of the handler ended with the cause %q instead of ErrInterrupted", cause)
	err := r.wait()
	r.h.require(errors.Is(err, want), "the router ended with the error %q instead of %q", err, want)
}
