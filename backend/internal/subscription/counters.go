package subscription

import "sync/atomic"

// Counters is what subscriptions have done. Several may share one. The zero
// value is ready; it may be read at any time.
type Counters struct {
	Claimed atomic.Int64 // leases and locks

	// Outcomes that were stored. Nacked are those that count a failure; a nack that does not is Released.
	Acked, Nacked, DeadLettered, Released atomic.Int64

	// Outcomes that have changed nothing: see [Missed].
	TooLate, Gone atomic.Int64

	Quarantined atomic.Int64 // by the store

	// Before the message was settled: its lease was lost; it was removed although its lease was valid.
	LeasesLost, Cancelled atomic.Int64

	// How many there are now of messages that wait for a slot, of messages that were
	// handed over, and of outcomes that are not stored.
	Prefetched, InFlight, Unstored atomic.Int64

	// Failing is why the last fetch failed; nil if it did not.
	Failing atomic.Pointer[error]
}

// settled counts outcomes that the store has been given.
func (c *Counters) settled(batch []Settlement, missed Missed) {
	c.Unstored.Add(-int64(len(batch) - len(missed.Busy)))
	c.TooLate.Add(int64(len(missed.Lost)))
	c.Gone.Add(int64(len(missed.Gone)))
	kinds := missed.kinds()
	for _, settlement := range batch {
		if kinds[settlement.Token] == notMissed {
			c.of(&settlement).Add(1)
		}
	}
}

func (c *Counters) of(settlement *Settlement) *atomic.Int64 {
	switch {
	case settlement.Action == Ack:
		return &c.Acked
	case settlement.Action == DeadLetter:
		return &c.DeadLettered
	case settlement.Action == Nack && !settlement.unfailed:
		return &c.Nacked
	default:
		return &c.Released
	}
}

// fetched counts the messages of one fetch.
func (c *Counters) fetched(n int, err error) {
	c.Claimed.Add(int64(n))
	if err == nil {
		c.Failing.Store(nil)
		return
	}
	c.Failing.Store(&err)
}
