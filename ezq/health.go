package ezq

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Ready returns nil while the router runs and receives the events of all topics
// that are not paused. Otherwise its error says what is wrong: the router has not
// been started, is not subscribed yet, is stopping, or has stopped; a
// [SubscriptionError] if that is why. It may be called at any time.
//
// When a topic's events cannot be fetched, because the database is away, say, the
// error wraps the reason, within 5 seconds, until they can be fetched again. Backends
// tell that with [backend.Consumer].Health, those of this module do; a Watermill
// Pub/Sub that does not is taken to receive. A topic whose handlers are all busy is not
// fetched from, so an outage shows when one of them is done.
func (r *Router) Ready() error {
	rn := r.running.Load()
	if rn == nil {
		return errNotStarted
	}
	if rn.taking.Err() != nil {
		if lost, ok := errors.AsType[*SubscriptionError](rn.reason().err); ok {
			return lost
		}
		if rn.over.Load() {
			return errStopped
		}
		return errStopping
	}
	for name, tp := range r.topics {
		if paused, _ := tp.pause.state(); paused {
			continue
		}
		if !tp.subscribed.Load() {
			return fmt.Errorf("ezq: the router has not subscribed to %q yet", name)
		}
		if err := tp.reception.Load().err(); err != nil {
			return fmt.Errorf("ezq: the router receives nothing from %q, and keeps trying: %w", name, err)
		}
	}
	return nil
}

// reception is what the backend says about one subscription. One that is over by now may
// still speak, and its topic has another one.
type reception struct {
	failure atomic.Pointer[error] // nil while events can be fetched
}

// hear is told by the backend whether it can fetch events.
func (r *reception) hear(err error) {
	if err == nil {
		r.failure.Store(nil)
		return
	}
	r.failure.Store(&err)
}

func (r *reception) err() error {
	if failure := r.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

var (
	errNotStarted = errors.New("ezq: the router has not been started")
	errStopping   = errors.New("ezq: the router is stopping")
	errStopped    = errors.New("ezq: the router has stopped")
)
