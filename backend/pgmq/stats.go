package pgmq

import (
	"sync"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// SubscriptionStats is what subscriptions to one topic have done since the [Subscriber]
// or the [Client] was made. A message counts once for each delivery.
type SubscriptionStats struct {
	// Group is the Group of the [Subscriber]; "" if it has none.
	Group string

	Claimed int64 // messages leased or locked

	// Outcomes that were stored. Acked messages include those of [Client.TxMiddleware]. Nacked
	// ones have failed, and will be delivered again. DeadLettered ones became dead letters. Released
	// ones will be delivered again, and no failure was counted: they were not received, or not
	// begun, or their handlers were interrupted or returned a snooze, or no handler knew them.
	Acked, Nacked, DeadLettered, Released int64

	// Outcomes that changed nothing. TooLate counts messages that were settled
	// when another consumer had them, or had had them since. Gone counts messages
	// that were not there any more: another session deleted them, or they had
	// been settled before, and the answer of PostgreSQL was lost.
	TooLate, Gone int64

	// Quarantined counts messages that no consumer got, because they cannot be read or are
	// larger than MaxMessageBytes: they were moved to the archive of their queue, or, where that
	// is not permitted, hidden for an hour, once for each time. The archive has the
	// reasons, and docs/postgres.md what to do then. A message that PostgreSQL does not lease,
	// because of a constraint, a trigger or a policy, counts each time that it is found, and stays in
	// its queue. Look at each of them.
	Quarantined int64

	// LeasesLost is how many messages lost their lease while a handler had them: PostgreSQL
	// did not answer for as long as a lease lasts, another consumer has claimed them, or they
	// were being handled for MaxExtension. Many of them mean that work is done twice.
	LeasesLost int64

	// Cancelled is how many messages were removed while consumers had them, with valid leases: see
	// [Client.CancelRunning].
	Cancelled int64

	// How many there are now. Prefetched messages are claimed, and no consumer has received
	// them. InFlight ones were handed over, and are not settled, or their acks are refused; InFlight of
	// ezq's TopicStats is those of them that handlers have or that are parked, without control
	// events, and with those that have lost their lease. Unstored outcomes are not stored
	// yet. A message that was delivered again may have several of these.
	Prefetched, InFlight, Unstored int64

	// TopicPause is the pause of the topic, or of the group, that keeps the subscriptions from fetching, as
	// far as this process knows; nil if there is none: see [Client.Pause].
	TopicPause *backend.Paused

	// Failing is why messages cannot be fetched; nil if they can, as far as known.
	// It is an [*Error].
	Failing error
}

// topicCounters are the counters of all topics.
type topicCounters struct {
	mu     sync.Mutex
	topics map[string]*subscription.Counters
}

// of returns the counters of topic, which its subscriptions share.
func (c *topicCounters) of(topic string) *subscription.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topics == nil {
		c.topics = map[string]*subscription.Counters{}
	}
	if c.topics[topic] == nil {
		c.topics[topic] = &subscription.Counters{}
	}
	return c.topics[topic]
}

func (c *topicCounters) snapshot() map[string]SubscriptionStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := make(map[string]SubscriptionStats, len(c.topics))
	for topic, counters := range c.topics {
		stats[topic] = statsOf(topic, counters)
	}
	return stats
}

func statsOf(topic string, c *subscription.Counters) SubscriptionStats {
	s := SubscriptionStats{
		Claimed: c.Claimed.Load(),
		Acked:   c.Acked.Load(), Nacked: c.Nacked.Load(), DeadLettered: c.DeadLettered.Load(), Released: c.Released.Load(),
		TooLate: c.TooLate.Load(), Gone: c.Gone.Load(), Quarantined: c.Quarantined.Load(), LeasesLost: c.LeasesLost.Load(), Cancelled: c.Cancelled.Load(),
		Prefetched: c.Prefetched.Load(), InFlight: c.InFlight.Load(), Unstored: c.Unstored.Load(),
	}
	if err := c.Failing.Load(); err != nil {
		s.Failing = fault.Classify("fetch", topic, *err)
	}
	return s
}
