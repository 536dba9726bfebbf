package insert

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// GroupCommit lets concurrent publishes to one topic share a statement, and so a
// commit, which is most of what a publish costs.
//
// There is no timer. A call that finds no other writing writes at once. Calls that
// come while it writes wait, and then the first of them writes for all that wait.
// A lone publisher therefore pays nothing. A call that would make the statement
// large does not wait: it writes those that wait, beside the other writers. Then
// the bytes cost more than the commit. Each caller gets the result of its own
// messages: if a shared statement is refused, by PostgreSQL or before, each call is tried on its own.
type GroupCommit struct {
	mu     sync.Mutex
	topics map[string]*topicQueue // by topic
}

// topicQueue is the publishes to one topic. The mutex of its GroupCommit guards it.
type topicQueue struct {
	writers int        // of which each lets the first that waits write after it
	waiting []*request // none unless a call writes
	size    batchSize  // of what waits
}

// request is one publish that waits.
type request struct {
	ctx      context.Context
	batch    Batch
	promoted chan struct{} // closed when this call is to write for all
	result   chan error
}

// NewGroupCommit returns a group commit for which nothing waits.
func NewGroupCommit() *GroupCommit {
	return &GroupCommit{topics: map[string]*topicQueue{}}
}

// writeFunc stores a batch in one statement.
type writeFunc func(ctx context.Context, batch Batch) error

// Write stores a batch with write, alone or together with those of others.
func (g *GroupCommit) Write(ctx context.Context, topic string, batch Batch, write writeFunc) error {
	g.mu.Lock()
	q := g.topics[topic]
	if q == nil {
		q = &topicQueue{}
		bounded.Set(g.topics, topic, q) // one that is left out goes on by itself
	}
	if q.writers == 0 {
		q.writers++
		g.mu.Unlock()
		defer g.promoteNext(q)
		return write(ctx, batch)
	}
	r := &request{ctx: ctx, batch: batch, promoted: make(chan struct{}), result: make(chan error, 1)}
	if !q.size.plus(batch.size).fitsShared() {
		q.writers++
		g.mu.Unlock()
		return g.writeShared(q, r, write)
	}
	q.add(r)
	g.mu.Unlock()

	select {
	case err := <-r.result:
		return err
	case <-r.promoted:
		return g.writeShared(q, r, write)
	case <-ctx.Done():
		return g.abandon(q, r)
	}
}

func (q *topicQueue) add(r *request) {
	q.waiting = append(q.waiting, r)
	q.size = q.size.plus(r.batch.size)
}

func (q *topicQueue) remove(i int) *request {
	r := q.waiting[i]
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.size = q.size.minus(r.batch.size)
	return r
}

// abandon is for a call whose context has ended.
func (g *GroupCommit) abandon(q *topicQueue, r *request) error {
	g.mu.Lock()
	if i := slices.Index(q.waiting, r); i >= 0 {
		q.remove(i)
		g.mu.Unlock()
		return context.Cause(r.ctx) // nothing was sent
	}
	g.mu.Unlock()
	select {
	case <-r.promoted: // it had just been told to write for the others
		defer g.promoteNext(q)
		return context.Cause(r.ctx)
	case err := <-r.result:
		return err
	default:
		return &SendError{Cause: context.Cause(r.ctx)} // another call is writing it
	}
}

// promoteNext ends a writer, and lets the first that waits be one in its place.
func (g *GroupCommit) promoteNext(q *topicQueue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(q.waiting) == 0 {
		q.writers--
		return
	}
	close(q.remove(0).promoted)
}

// writeShared stores the batches of leader and of those that wait, as many as fit.
func (g *GroupCommit) writeShared(q *topicQueue, leader *request, write writeFunc) error {
	defer g.promoteNext(q)
	requests := g.takeFitting(q, leader)
	if len(requests) == 1 {
		return write(leader.ctx, leader.batch)
	}
	var all Batch
	for _, r := range requests {
		all.append(r.batch)
	}
	// The end of the leader's context does not concern the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(leader.ctx), Timeout)
	defer cancel()
	err := write(ctx, all)
	if mayBeOfOne(err) {
		for _, r := range requests {
			r.result <- write(r.ctx, r.batch)
		}
	} else {
		for _, r := range requests {
			r.result <- err
		}
	}
	return <-leader.result
}

// mayBeOfOne reports whether err, with which certainly nothing was stored, may be due to one of several calls: PostgreSQL
// refuses a row, or what was to be sent was refused before, as an ID is that only its queue shows to be a bad one.
func mayBeOfOne(err error) bool {
	if _, sent := errors.AsType[*SendError](err); !sent {
		if _, refused := errors.AsType[*fault.Error](err); refused {
			return true
		}
	}
	return fault.PublishOutcome(err) == fault.ErrRejected //nolint:errorlint // it returns the sentinel itself
}

// takeFitting removes from q what fits into a statement with leader.
func (g *GroupCommit) takeFitting(q *topicQueue, leader *request) []*request {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, carried := 0, leader.batch.size
	for n < len(q.waiting) && carried.plus(q.waiting[n].batch.size).fitsShared() {
		carried = carried.plus(q.waiting[n].batch.size)
		n++
	}
	requests := append([]*request{leader}, q.waiting[:n]...)
	q.waiting = slices.Delete(q.waiting, 0, n)
	q.size = q.size.plus(leader.batch.size).minus(carried)
	return requests
}

// Timeout bounds a publish whose context has no deadline of its own.
const Timeout = 30 * time.Second

// SendError marks an error of the statement that stores the messages. Any other
// error comes before it, when nothing can have been stored.
type SendError struct{ Cause error }

// Error returns what Cause does.
func (e *SendError) Error() string { return e.Cause.Error() }

// Unwrap returns Cause.
func (e *SendError) Unwrap() error { return e.Cause }
