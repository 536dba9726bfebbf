package subscription

import "time"

// capacity is how many messages a subscription may fetch and hand over, and how many it
// has. It has no mutex: that of its [leases] guards it.
type capacity struct {
	maxInFlight int
	maxPrefetch int
	maxBytes    int64 // 0: no bound

	slots      int           // taken by messages that are being sent or are delivered, and not parked
	parked     int           // messages that are delivered and have no slot
	bytes      int64         // of all messages
	largest    int64         // message of the last fetch that brought any, in bytes
	fetchTime  time.Duration // of fetches that brought some, of late
	throughput throughput
}

func newCapacity(config Config) capacity {
	return capacity{
		maxInFlight: config.MaxInFlight,
		maxPrefetch: config.MaxPrefetch,
		maxBytes:    config.MaxInFlightBytes,
		largest:     unknownSize,
	}
}

// toFetch returns how many messages to fetch while there are messages in the table, of which some
// are waiting for a slot. It is 0 while enough of them wait. A message should not wait longer
// than window.
func (c *capacity) toFetch(messages, waiting int, window time.Duration) int {
	prefetch := c.throughput.prefetch(window, c.maxPrefetch)
	n := c.fit(c.maxInFlight + prefetch - (messages - c.parked))
	if n <= 0 || waiting > prefetch/2 {
		return 0
	}
	return n
}

// window is how long a message may expect to wait between fetch and hand-over, at most
// longest. But while a fetch is under way, its consumer needs something to do, and the
// batch before this one is to be settled, too: over a distance, that takes longer.
func (c *capacity) window(longest time.Duration) time.Duration {
	return max(min(prefetchWindow, longest), min(3*c.fetchTime, maxWindow))
}

// fit returns how many of n messages fit into memory, if all of them are as large as the
// largest one of the last fetch. Below the bound, one always does: a message that is larger
// than the bound is handled alone.
func (c *capacity) fit(n int) int {
	switch {
	case c.maxBytes == 0:
		return n
	case c.bytes >= c.maxBytes:
		return 0
	case c.largest == 0:
		return n
	}
	return int(min(int64(n), max((c.maxBytes-c.bytes)/c.largest, 1)))
}

// observeSizes records how large the messages of one fetch are, and how long it took.
func (c *capacity) observeSizes(fetched []Lease, took time.Duration) {
	if len(fetched) == 0 {
		return
	}
	c.fetchTime = (3*c.fetchTime + took) / 4
	c.largest = 0
	for _, l := range fetched {
		c.largest = max(c.largest, int64(l.Size))
	}
}

// hasSlot reports whether a message may be handed over.
func (c *capacity) hasSlot() bool { return c.slots < c.maxInFlight }

// add counts a message that was fetched.
func (c *capacity) add(l *held) { c.bytes += int64(l.Size) }

// remove counts a message no longer, and frees its slot.
func (c *capacity) remove(l *held) {
	c.bytes -= int64(l.Size)
	switch {
	case l.phase == waiting:
	case l.parked:
		c.parked--
	default:
		c.slots--
	}
}

// park takes the slot of a delivered message, or gives it one again: there may be more than
// maxInFlight for a moment.
func (c *capacity) park(parked bool) {
	if parked {
		c.parked++
		c.slots--
		return
	}
	c.parked--
	c.slots++
}
