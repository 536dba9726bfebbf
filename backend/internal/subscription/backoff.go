package subscription

import (
	"math/rand/v2"
	"time"
)

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
