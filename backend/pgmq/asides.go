package pgmq

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// asides has the messages looked at that are put aside. One queue at a time has a turn, which is a
// step of some seconds, so that what is put aside of one keeps no other waiting for long. All of
// them share a connection, which is open while there is something to look at.
type asides struct {
	ctx    context.Context //nolint:containedctx // that of its goroutines: it ends with close
	cancel context.CancelFunc
	turn   chan struct{}
	done   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	users  int // of the pool
	pool   *pgxpool.Pool
}

func newAsides() *asides {
	ctx, cancel := context.WithCancel(context.Background())
	return &asides{ctx: ctx, cancel: cancel, turn: make(chan struct{}, 1)}
}

// run runs do, unless it is closed.
func (a *asides) run(do func(ctx context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.done.Go(func() { do(a.ctx) })
	}
}

// open returns a pool of one connection to where pool leads. It is closed when all have left it.
func (a *asides) open(pool *pgxpool.Pool) (*pgxpool.Pool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users == 0 {
		own, err := consumerPool(pool, 1)
		if err != nil {
			return nil, err
		}
		a.pool = own
	}
	a.users++
	return a.pool, nil
}

func (a *asides) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users--; a.users == 0 {
		closePool(a.pool)
	}
}

// step runs do when it is this one's turn, unless ctx ends before that.
func (a *asides) step(ctx context.Context, do func()) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
		do()
	case <-ctx.Done():
	}
}

// close ends it. What is put aside is given back.
func (a *asides) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.done.Wait()
}
