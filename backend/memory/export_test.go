package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// Store is what the subscriptions to a topic use.
func (b *Broker) Store(name string) subscription.Store {
	return consumedTopic{topic: b.topics.get(name)}
}

// EndLease ends the lease, or the delay, of a message.
func (b *Broker) EndLease(name, uuid string) {
	t := b.topics.get(name)
	b.topics.mu.Lock()
	defer b.topics.mu.Unlock()
	for _, e := range t.byID {
		if e.uuid == uuid {
			t.makeVisible(e, time.Now())
		}
	}
}

// Size is how many messages a topic has.
func (b *Broker) Size(name string) int {
	t := b.topics.get(name)
	b.topics.mu.Lock()
	defer b.topics.mu.Unlock()
	return len(t.byID)
}

// RememberedIDs is how many IDs a topic remembers.
func (b *Broker) RememberedIDs(name string) int {
	t := b.topics.get(name)
	b.topics.mu.Lock()
	defer b.topics.mu.Unlock()
	return max(len(t.conditions.onceUntil), len(t.conditions.onceOrder))
}
