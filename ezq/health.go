package ezq

import (
	"errors"
	"fmt"
)

// Healthy returns nil while the router runs and receives the events of all topics
// that are not paused. Otherwise its error says what is wrong: the router has not
// been started, is not subscribed yet, is stopping, or has stopped; a
// [SubscriptionError] if that is why. It may be called at any time.
func (r *Router) Healthy() error {
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
		if paused, _ := tp.pause.state(); !paused && !tp.subscribed.Load() {
			return fmt.Errorf("ezq: the router has not subscribed to %q yet", name)
		}
	}
	return nil
}

var (
	errNotStarted = errors.New("ezq: the router has not been started")
	errStopping   = errors.New("ezq: the router is stopping")
	errStopped    = errors.New("ezq: the router has stopped")
)
