// Package catalog knows what the database has: PGMQ, queues, their columns and owners, the groups of a
// topic, and so the route of its messages. It creates queues and binds groups. What it remembers may have
// been overtaken: the statement that relies on it finds that out, and its caller has it forgotten.
package catalog

import (
	"context"
	"errors"
	"sync"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Catalog remembers queues that were seen to exist. Publisher and subscriber share it.
// A caller that finds a queue gone calls Forget. Only callers that cannot find that
// out without harm rely on it, such as a publisher in a transaction. A subscription
// looks.
type Catalog struct {
	mu    sync.Mutex
	known map[string]struct{}
	safe  map[string]struct{} // those of them that ran no code of an untrusted role when that was looked for
}

// New returns a catalog that knows no queue.
func New() *Catalog {
	return &Catalog{known: map[string]struct{}{}, safe: map[string]struct{}{}}
}

// Ensure makes sure that queue exists, as far as known.
func (c *Catalog) Ensure(ctx context.Context, db transact.Queryer, queue string, create Creator) error {
	if c.Knows(queue) {
		return nil
	}
	_, err := c.LookUp(ctx, db, queue, create)
	return err
}

// EnsureTrusted is Ensure for a queue to which no route leads. It is an error if that would run the code of an
// untrusted role.
func (c *Catalog) EnsureTrusted(ctx context.Context, db transact.Queryer, queue string, create Creator) error {
	c.mu.Lock()
	_, safe := c.safe[queue]
	c.mu.Unlock()
	if safe {
		return nil
	}
	if err := c.Ensure(ctx, db, queue, create); err != nil {
		return err
	}
	if err := RequireTrusted(ctx, db, []string{queuename.Table(queue)}, ""); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	bounded.Set(c.safe, queue, struct{}{})
	return nil
}

// Knows reports whether queue was there when it was last looked at.
func (c *Catalog) Knows(queue string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.known[queue]
	return ok
}

// LookUp looks up queue through db. If it does not exist, it is created with create,
// unless that is nil.
func (c *Catalog) LookUp(ctx context.Context, db transact.Queryer, queue string, create Creator) (Layout, error) {
	c.Forget(queue)
	found, err := Probe(ctx, db, queue)
	if err != nil {
		return Layout{}, err
	}
	if !found.Exists() {
		if create == nil {
			return found, queueNotFound(queue)
		}
		if found, err = create(ctx, queue, plainCreation(queue)); err != nil {
			return Layout{}, err
		}
	}
	c.remember(queue)
	return found, nil
}

// CreateOwn creates a topic's own queue, as far as it has no groups; else it returns
// ErrHasGroups. grouping says that there can be any.
func (c *Catalog) CreateOwn(ctx context.Context, topic, own string, create Creator, grouping bool) (Layout, error) {
	if create == nil {
		return Layout{}, queueNotFound(own)
	}
	creation := plainCreation(own)
	if grouping {
		creation = creationUnlessGrouped(topic, own)
	}
	creation.topic = topic
	found, err := create(ctx, own, creation)
	if grouping && errors.Is(err, fault.ErrQueueNotFound) {
		return Layout{}, ErrHasGroups
	}
	if err != nil {
		return Layout{}, err
	}
	c.remember(own)
	return found, nil
}

func (c *Catalog) remember(queue string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bounded.Set(c.known, queue, struct{}{})
}

// Forget is for a queue that turned out to be gone.
func (c *Catalog) Forget(queue string) {
	c.mu.Lock()
	delete(c.known, queue)
	delete(c.safe, queue)
	c.mu.Unlock()
}

// MissingTablesSQL tells which of the tables whose names are $1 do not exist.
const MissingTablesSQL = "select name from pg_catalog.unnest($1::text[]) as name where pg_catalog.to_regclass(name) is null"

// CheckInstalled returns an error if PGMQ cannot be used in the database of db.
func CheckInstalled(ctx context.Context, db transact.Queryer) error {
	_, err := Probe(ctx, db, "ezq")
	return fault.Classify("open", "", err)
}
