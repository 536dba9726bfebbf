package pgmq

import (
	"context"
	"errors"
	"sync"
)

// groupCommit lets concurrent publishes to one topic share a statement, and so a
// commit, which is most of what a publish costs.
//
// There is no timer. A call that finds nobody writing writes at once. Calls that
// come while it writes wait, and then the first of them writes for all that wait.
// A lone publisher therefore pays nothing. Each caller gets the result of its own
// messages: if a shared statement is refused, each call is tried on its own.
type groupCommit struct {
	mu    sync.Mutex
	lanes map[string]*lane // by topic
}

// lane is the publishes to one topic. The mutex of its groupCommit guards it.
type lane struct {
	busy    bool
	waiting []*call
}

// call is one publish that waits.
type call struct {
	ctx    context.Context
	rows   rows
	lead   chan struct{} // closed when this call is to write for all
	result chan error
}

// maxShared is how many messages one statement carries for several calls.
const maxShared = 1000

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
		g.lanes[topic] = l
	}
	if !l.busy {
		l.busy = true
		g.mu.Unlock()
		defer g.passOn(l)
		return write(ctx, rows)
	}
	c := &call{ctx: ctx, rows: rows, lead: make(chan struct{}), result: make(chan error, 1)}
	l.waiting = append(l.waiting, c)
	g.mu.Unlock()

	select {
	case err := <-c.result:
		return err
	case <-c.lead:
		defer g.passOn(l)
		g.writeShared(l, c, write)
		return <-c.result
	case <-ctx.Done():
		return g.leave(l, c)
	}
}

// leave is for a call whose context has ended.
func (g *groupCommit) leave(l *lane, c *call) error {
	g.mu.Lock()
	for i, other := range l.waiting {
		if other == c {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			g.mu.Unlock()
			return context.Cause(c.ctx) // nothing was sent
		}
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

// passOn lets the next call write, if there is one.
func (g *groupCommit) passOn(l *lane) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(l.waiting) == 0 {
		l.busy = false
		return
	}
	first := l.waiting[0]
	l.waiting = l.waiting[1:]
	close(first.lead)
}

// writeShared stores the rows of leader and of those that wait with it.
func (g *groupCommit) writeShared(l *lane, leader *call, write writer) {
	calls := g.take(l, leader)
	if len(calls) == 1 {
		leader.result <- write(leader.ctx, leader.rows)
		return
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
		return
	}
	for _, c := range calls {
		c.result <- err
	}
}

// take removes from l what fits into a statement with leader.
func (g *groupCommit) take(l *lane, leader *call) []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := []*call{leader}
	n := leader.rows.len()
	for len(l.waiting) > 0 && n+l.waiting[0].rows.len() <= maxShared {
		calls = append(calls, l.waiting[0])
		n += l.waiting[0].rows.len()
		l.waiting = l.waiting[1:]
	}
	return calls
}
