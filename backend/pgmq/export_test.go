package pgmq

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// LookOnce makes the subscriptions of q look for messages once, and then only
// when they are told.
func (c *Client) LookOnce() {
	c.subscriber.pollMin = time.Hour
	c.subscriber.config.PollInterval = time.Hour
}

// Store is what a subscription to topic uses.
func (c *Client) Store(ctx context.Context, topic string) (subscription.Store, error) {
	return c.subscriber.open(ctx, topic, false)
}

// HoldFor makes the subscriptions of q hold messages for so long.
func (c *Client) HoldFor(d time.Duration) { c.subscriber.holdFor = d }

// LookAtBindingsEvery makes the subscriptions of q look so often whether their group is bound.
func (c *Client) LookAtBindingsEvery(pause time.Duration) { c.subscriber.bindingPause = pause }

// GroupQueueName is the name of the queue of a group.
func GroupQueueName(topic, group string) (string, error) { return groupQueue(topic, group) }

// LooksAt is the SQL that looks at messages of queue before they are read.
func LooksAt(queue string) map[string]string {
	s := newStatements(queue, layout{})
	return map[string]string{"suspicious": s.suspicious, "weight": s.weight}
}
