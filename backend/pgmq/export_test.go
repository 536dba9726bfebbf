package pgmq

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
)

// PollOnce makes the subscriptions of c look for messages once, and then only
// when they are told.
func (c *Client) PollOnce() {
	c.subscriber.pollMin = time.Hour
	c.subscriber.config.PollInterval = time.Hour
}

// Store is what a subscription to topic uses.
func (c *Client) Store(ctx context.Context, topic string) (subscription.Store, error) {
	return c.subscriber.open(ctx, topic, false)
}

// LockFor makes the subscriptions of c lock messages for so long.
func (c *Client) LockFor(d time.Duration) { c.subscriber.lockFor = d }

// LookAtBindingsEvery makes the subscriptions of c look so often whether their group is bound.
func (c *Client) LookAtBindingsEvery(interval time.Duration) { c.subscriber.bindingInterval = interval }

// PruneEvery makes the subscriptions of c prune their archives so often.
func (c *Client) PruneEvery(interval time.Duration) { c.subscriber.pruneInterval = interval }

// LooksAt is the SQL that looks at messages of queue before they are read.
func LooksAt(queue string) map[string]string {
	s := statement.New(queue, catalog.Layout{})
	return map[string]string{"suspicious": s.Suspicious, "minimum size": s.MinimumSize}
}

// CheckAt is Check on a machine with that clock.
func (c *Client) CheckAt(ctx context.Context, now func() time.Time) ([]Finding, error) {
	return check(ctx, c.pool, false, now)
}

// SearchAtMost sets how many rows of a table a search looks at, and for how long.
func (c *Client) SearchAtMost(rows int, timeout time.Duration) {
	c.stored.search.MaxRows, c.stored.search.Timeout = rows, timeout
}

// LookAtMost sets how many dead letters a list or a count looks at, and for how long a statement does.
func (c *Client) LookAtMost(rows int, timeout time.Duration) {
	c.letters.maxRows, c.letters.timeout = rows, timeout
}

// ListAtMost sets how many bytes of dead letters are listed at once.
func (c *Client) ListAtMost(bytes int) { c.letters.maxListed = bytes }

// SearchInMemory sets how many bytes of memory payloads and metadata may take that are found at once.
func (c *Client) SearchInMemory(bytes int) { c.stored.search.MaxMemory = bytes }
