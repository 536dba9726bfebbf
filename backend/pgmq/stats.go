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

	// Outcomes that were stored: messages that were acked, also by [Client.TxMiddleware]; that
	// will be delivered again; that became dead letters; and that were released because the
	// subscription ended, or no consumer received them.
	Acked, Nacked, DeadLettered, Released int64

	// Outcomes that changed nothing. LeaseLost counts messages that were settled
	// when another consumer had them, or had had them since. Gone counts messages
	// that were not there any more: another session deleted them, or they had
	// been settled before, and the answer of PostgreSQL was lost.
	LeaseLost, Gone int64

	// Quarantined counts messages that no consumer got, because they cannot be read or are
	// larger than MaxMessageBytes: they were moved to the archive of their queue, or, where that
	// is not permitted, hidden for an hour, once for each time. The archive has the
	// reasons, and docs/postgres.md what to do then. A message that PostgreSQL does not lease,
	// because of a constraint, a trigger or a policy, counts each time that it is found, and stays in
	// its queue. Look at each of them.
	Quarantined int64

	// Expired is how many messages were taken from their handlers: PostgreSQL did not
	// answer for as long as a lease lasts, another consumer has claimed them, or they
	// were being handled for MaxExtension. Many of them mean that work is done twice.
	Expired int64

	// Cancelled is how many messages were removed while consumers had them, with valid leases: see
	// [Client.CancelRunning].
	Cancelled int64

	// How many there are now: messages that are claimed and wait to be received,
	// messages with handlers, and outcomes that are not stored yet. A message that was
	// delivered again may have several of these.
	Waiting, InFlight, Unstored int64

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
		LeaseLost: c.Lost.Load(), Gone: c.Gone.Load(), Quarantined: c.Quarantined.Load(), Expired: c.LeasesLost.Load(), Cancelled: c.Cancelled.Load(),
		Waiting: c.Waiting.Load(), InFlight: c.InFlight.Load(), Unstored: c.Unstored.Load(),
	}
	if err := c.Failing.Load(); err != nil {
		s.Failing = fault.Classify("fetch", topic, *err)
	}
	return s
}
