package memory

import "github.com/ezq-go/ezq/internal/subscription"

// Beside returns another queue over the same messages, as a second process has
// it: with subscriptions, and an end, of its own.
func (q *Queue) Beside() *Queue {
	return &Queue{config: q.config, topics: q.topics, subscriptions: subscription.NewSet()}
}
