package subscription

import (
	"context"
	"math"
	"math/rand/v2"
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

// partSize is how many of n things to try together that have failed together because of a few of
// them. A try that fails may cost seconds, and one that succeeds a round trip: so there are two
// rounds of many tries, and not many rounds of two.
func partSize(n int) int {
	if n <= 25 {
		return 1
	}
	return int(math.Sqrt(float64(n)))
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

// backoff is a growing wait, from min to max, spread by ±20 % so that
// consumers do not move in step. Where max is 0, the wait is endless (-1).
type backoff struct {
	min, max time.Duration
	last     time.Duration
}

func (b *backoff) reset() { b.last = 0 }

func (b *backoff) next() time.Duration {
	if b.max == 0 {
		return -1
	}
	b.last = min(max(2*b.last, b.min), b.max)
	spread := b.last / 5
	return b.last - spread + rand.N(2*spread+1) //nolint:gosec // chance only spreads load, and may be guessed
}

// sooner returns the shorter of two waits, of which a negative one does not end.
func sooner(a, b time.Duration) time.Duration {
	if a < 0 || b >= 0 && b < a {
		return b
	}
	return a
}
