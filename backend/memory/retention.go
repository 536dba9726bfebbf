package memory

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// retention is how long the dead letters of a topic, or of one of its groups, are kept. The zero value keeps them for ever.
type retention struct {
	topic string
	keep  time.Duration
}

// limit deletes a dead letter when its time is over, if it is one of the topic, or of the pattern. The mutex of the topics is held.
func (r retention) limit(dead *entry, in *queue, name string) {
	if r.keep > 0 && name == r.topic+backend.DeadLetterSuffix && dead.metadata[backend.DeadLetterTopic] == r.topic {
		time.AfterFunc(r.keep, func() { in.expire(dead) })
	}
}

// consumedQueue is a queue for the consumers of a Broker, which keeps their dead letters for so long.
type consumedQueue struct {
	*queue
	retention retention
}

// Claim implements [subscription.Store].
func (c consumedQueue) Claim(_ context.Context, settlements []subscription.Settlement, limit int, d time.Duration) (subscription.Claim, error) {
	return c.claim(settlements, limit, d, c.retention), nil
}

// Settle implements [subscription.Store].
func (c consumedQueue) Settle(_ context.Context, settlements []subscription.Settlement) (subscription.Missed, error) {
	c.parent.mu.Lock()
	defer c.parent.mu.Unlock()
	return c.settle(settlements, c.retention), nil
}
