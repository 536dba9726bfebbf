package subscription

import (
	"context"
	"time"
)

// room waits until there is enough room to claim more, and returns for how many
// messages. ok is false if ctx ended.
func (ls *leases) room(ctx context.Context) (n int, ok bool) {
	for ctx.Err() == nil {
		ls.mu.Lock()
		prefetch := ls.speed.prefetch(ls.window(), ls.config.MaxPrefetch)
		n = ls.config.MaxInFlight + prefetch - (len(ls.byID) - ls.aside)
		n = ls.fitting(n)
		enough := n > 0 && len(ls.queue) <= prefetch/2
		ls.mu.Unlock()
		if enough {
			return n, true
		}
		select {
		case <-ls.freed:
		case <-ctx.Done():
		}
	}
	return 0, false
}

// window is how long a message may expect to wait between claim and hand-over. What is
// held should be acked before its hold ends. But while a claim is under way, its consumer
// needs something to do, and the claim before this one is to be settled, too: over a
// distance, that takes longer.
func (ls *leases) window() time.Duration {
	window := prefetchWindow
	if ls.habit.holding {
		window = min(window, ls.config.HoldFor/2)
	}
	return max(window, min(3*ls.took, maxWindow))
}

// fitting returns how many of n messages fit into memory, if all of them are as
// large as the largest one that came last. Below the bound, one always does: a
// message that is larger than the bound is handled alone.
func (ls *leases) fitting(n int) int {
	limit := ls.config.MaxInFlightBytes
	switch {
	case limit == 0:
		return n
	case ls.bytes >= limit:
		return 0
	case ls.largest == 0:
		return n
	}
	return int(min(int64(n), max((limit-ls.bytes)/ls.largest, 1)))
}

// came notes how large the messages are that a claim has brought, which was sent at sent.
func (ls *leases) came(claimed []Lease, sent time.Time) {
	if len(claimed) == 0 {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.took = (3*ls.took + time.Since(sent)) / 4
	ls.largest = 0
	for _, l := range claimed {
		ls.largest = max(ls.largest, int64(l.Size))
	}
}

// gap is how long to wait for more after a claim that brought something.
func (ls *leases) gap() time.Duration {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.speed.gap(ls.config.PollMin)
}
