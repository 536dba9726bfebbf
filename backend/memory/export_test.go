package memory

import (
	"time"

	"github.com/ezq-go/ezq/internal/subscription"
)

// Store is what the subscriptions to a topic use.
func (q *Queue) Store(name string) subscription.Store { return q.topics.named(name) }

// Expire ends the lease, or the delay, of a message.
func (q *Queue) Expire(name, uuid string) {
	t := q.topics.named(name)
	q.topics.mu.Lock()
	defer q.topics.mu.Unlock()
	for _, e := range t.byID {
		if e.uuid == uuid {
			t.expose(e, time.Now())
		}
	}
}
