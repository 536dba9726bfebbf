package pgmq

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// groupCommit lets concurrent publishes to one topic share a statement, and so a
// commit, which is most of what a publish costs.
//
// There is no timer. A call that finds nobody writing writes at once. Calls that
// come while it writes wait, and then the first of them writes for all that wait.
// A lone publisher therefore pays nothing. Who would make a statement large by
// waiting does not wait, but writes what waits beside the others: then it is the
// bytes that cost, and no longer the commit. Each caller gets the result of its own
// messages: if a shared statement is refused, each call is tried on its own.
type groupCommit struct {
	mu    sync.Mutex
	lanes map[string]*lane // by topic
}

// lane is the publishes to one topic. The mutex of its groupCommit guards it.
type lane struct {
	writers int     // of which each lets the first that waits write after it
	waiting []*call // none unless somebody writes
	load    load    // of what waits
}

// call is one publish that waits.
type call struct {
	ctx    context.Context
	rows   rows
	lead   chan struct{} // closed when this call is to write for all
	result chan error
}

func newGroupCommit() *groupCommit {
	return &groupCommit{lanes: map[string]*lane{}}
}

// writer stores rows in one statement.
type writer func(ctx context.Context, rows rows) error

// write stores rows with write, alone or together with those of others.
func (g *groupCommit) write(ctx context.Context, topic string, rows rows, write writer) error {
	g.mu.Lock()
	l := g.lanes[topic]
	if l == nil {
		l = &lane{}
		remember(g.lanes, topic, l) // one that is left out goes on by itself
	}
	if l.writers == 0 {
		l.writers++
		g.mu.Unlock()
		defer g.passOn(l)
		return write(ctx, rows)
	}
	c := &call{ctx: ctx, rows: rows, lead: make(chan struct{}), result: make(chan error, 1)}
	if !l.load.and(rows.load).fits() {
		l.writers++
		g.mu.Unlock()
		return g.leadShared(l, c, write)
	}
	l.add(c)
	g.mu.Unlock()

	select {
	case err := <-c.result:
		return err
	case <-c.lead:
		return g.leadShared(l, c, write)
	case <-ctx.Done():
		return g.leave(l, c)
	}
}

func (l *lane) add(c *call) {
	l.waiting = append(l.waiting, c)
	l.load = l.load.and(c.rows.load)
}

func (l *lane) remove(i int) *call {
	c := l.waiting[i]
	l.waiting = slices.Delete(l.waiting, i, i+1)
	l.load = l.load.without(c.rows.load)
	return c
}

// leave is for a call whose context has ended.
func (g *groupCommit) leave(l *lane, c *call) error {
	g.mu.Lock()
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.remove(i)
		g.mu.Unlock()
		return context.Cause(c.ctx) // nothing was sent
	}
	g.mu.Unlock()
	select {
	case <-c.lead: // it had just been told to write for the others
		defer g.passOn(l)
		return context.Cause(c.ctx)
	case err := <-c.result:
		return err
	default:
		return &sendError{context.Cause(c.ctx)} // somebody is writing it
	}
}

// passOn ends a writer, and lets the first that waits be one in its place.
func (g *groupCommit) passOn(l *lane) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(l.waiting) == 0 {
		l.writers--
		return
	}
	close(l.remove(0).lead)
}

// leadShared stores the rows of leader and of those that wait, as many as fit.
func (g *groupCommit) leadShared(l *lane, leader *call, write writer) error {
	defer g.passOn(l)
	calls := g.take(l, leader)
	if len(calls) == 1 {
		return write(leader.ctx, leader.rows)
	}
	var all rows
	for _, c := range calls {
		all.append(c.rows)
	}
	// The end of the leader's context does not concern the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(leader.ctx), publishTimeout)
	defer cancel()
	err := write(ctx, all)
	if sent := (*sendError)(nil); errors.As(err, &sent) && publishOutcome(sent.error) == ErrRejected { //nolint:errorlint // it returns the sentinel itself
		for _, c := range calls {
			c.result <- write(c.ctx, c.rows)
		}
	} else {
		for _, c := range calls {
			c.result <- err
		}
	}
	return <-leader.result
}

// take removes from l what fits into a statement with leader.
func (g *groupCommit) take(l *lane, leader *call) []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, carried := 0, leader.rows.load
	for n < len(l.waiting) && carried.and(l.waiting[n].rows.load).fits() {
		carried = carried.and(l.waiting[n].rows.load)
		n++
	}
	calls := append([]*call{leader}, l.waiting[:n]...)
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.load = l.load.and(leader.rows.load).without(carried)
	return calls
}
