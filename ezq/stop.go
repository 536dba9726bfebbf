package ezq

import (
	"context"
	"fmt"
	"strings"

	"github.com/ezq-go/ezq/backend"
)

// StoppingFromContext returns a channel that is closed when the router whose handler runs
// in ctx has been told to stop. A handler that takes long can look at it and
// finish early: its context itself ends only when the router does not wait any
// longer. Outside of a handler the channel is nil.
func StoppingFromContext(ctx context.Context) <-chan struct{} {
	if h := handlingFrom(ctx); h != nil && h.task != nil {
		return h.task.run.taking.Done()
	}
	return backend.ConsumerFromContext(ctx).Stopping
}

// StopError is returned by [Router.Run] when it had to interrupt handlers. It
// matches what is in Reason: [ErrDrainTimeout] or [ErrInterrupted].
type StopError struct {
	Reason error

	// Running is what handlers still work on although their contexts have ended.
	// Such events come back when their leases run out, unless the handlers return
	// before that.
	Running []Meta
}

func (e *StopError) Error() string {
	if len(e.Running) == 0 {
		return e.Reason.Error()
	}
	names := make([]string, len(e.Running))
	for i, m := range e.Running {
		names[i] = fmt.Sprintf("%s %s on %q", m.Event, m.ID, m.Topic)
	}
	return fmt.Sprintf("%v; still running: %s", e.Reason, strings.Join(names, ", "))
}

// Unwrap returns e.Reason.
func (e *StopError) Unwrap() error { return e.Reason }
