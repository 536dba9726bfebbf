package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// Store is what the subscriptions to a topic use, with the Group of b.
func (b *Broker) Store(name string) subscription.Store {
	return consumedQueue{queue: b.topics.get(name, b.config.Group)}
}

// EndLease ends the lease, or the delay, of a message.
func (b *Broker) EndLease(name, uuid string) {
	q := b.topics.get(name, b.config.Group)
	b.topics.mu.Lock()
	defer b.topics.mu.Unlock()
	for _, e := range q.byID {
		if e.uuid == uuid {
			q.makeVisible(e, time.Now())
		}
	}
}

// Size is how many messages a topic has.
func (b *Broker) Size(name string) int {
	q := b.topics.get(name, b.config.Group)
	b.topics.mu.Lock()
	defer b.topics.mu.Unlock()
	return len(q.byID)
}

// RememberedIDs is how many IDs a topic remembers.
func (b *Broker) RememberedIDs(name string) int {
	q := b.topics.get(name, b.config.Group)
	b.topics.mu.Lock()
	defer b.topics.mu.Unlock()
	return max(len(q.topic.ids.until), len(q.topic.ids.order))
}
