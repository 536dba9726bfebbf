package subscription

import (
	"context"
	"time"
)

// waitFor waits for d, or for ever if d is negative, or until woken or ctx ends.
func waitFor(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	var elapsed <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-elapsed:
	case <-woken:
	case <-ctx.Done():
	}
}

// signal leaves a token in c, which has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func closedChannel() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// sooner returns the shorter of two waits, of which a negative one does not end.
func sooner(a, b time.Duration) time.Duration {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}
