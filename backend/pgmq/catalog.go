package pgmq

import (
	"context"
	"errors"
	"sync"
)

// catalog remembers queues that were seen to exist. Publisher and subscriber share it.
// A caller that finds a queue gone calls forget. Only callers that cannot find that
// out without harm rely on it, such as a publisher in a transaction. A subscription
// looks.
type catalog struct {
	mu    sync.Mutex
	known map[string]struct{}
}

func newCatalog() *catalog {
	return &catalog{known: map[string]struct{}{}}
}

// ensure makes sure that queue exists, as far as known.
func (c *catalog) ensure(ctx context.Context, db queryer, queue string, create creator) error {
	if c.knows(queue) {
		return nil
	}
	_, err := c.lookUp(ctx, db, queue, create)
	return err
}

// knows reports whether queue was there when it was last looked at.
func (c *catalog) knows(queue string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.known[queue]
	return ok
}

// lookUp looks up queue through db. If it does not exist, it is created with create,
// unless that is nil.
func (c *catalog) lookUp(ctx context.Context, db queryer, queue string, create creator) (queueLayout, error) {
	c.forget(queue)
	found, err := probe(ctx, db, queue)
	if err != nil {
		return queueLayout{}, err
	}
	if !found.exists() {
		if create == nil {
			return found, queueNotFound(queue)
		}
		if found, err = create(ctx, queue, plainCreation(queue)); err != nil {
			return queueLayout{}, err
		}
	}
	c.remember(queue)
	return found, nil
}

// createOwn creates a topic's own queue, as far as it has no groups; else it returns
// errHasGroups. grouping says that there can be any.
func (c *catalog) createOwn(ctx context.Context, topic, own string, create creator, grouping bool) (queueLayout, error) {
	if create == nil {
		return queueLayout{}, queueNotFound(own)
	}
	creation := plainCreation(own)
	if grouping {
		creation = creationUnlessGrouped(topic, own)
	}
	found, err := create(ctx, own, creation)
	if grouping && errors.Is(err, ErrQueueNotFound) {
		return queueLayout{}, errHasGroups
	}
	if err != nil {
		return queueLayout{}, err
	}
	c.remember(own)
	return found, nil
}

func (c *catalog) remember(queue string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	setBounded(c.known, queue, struct{}{})
}

// forget is for a queue that turned out to be gone.
func (c *catalog) forget(queue string) {
	c.mu.Lock()
	delete(c.known, queue)
	c.mu.Unlock()
}

// checkInstalled returns an error if PGMQ cannot be used in the database of db.
func checkInstalled(ctx context.Context, db queryer) error {
	_, err := probe(ctx, db, "ezq")
	return classify("open", "", err)
}
