package pgmq

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// examiner examines the suspects of all queues. One queue at a time has a turn, which is a
// step of some seconds, so that the suspects of one keeps no other waiting for long. All of
// them share a connection, which is open while there is something to look at.
type examiner struct {
	ctx    context.Context //nolint:containedctx // that of its goroutines: it ends with close
	cancel context.CancelFunc
	slot   chan struct{}
	done   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	users  int // of the pool
	pool   *pgxpool.Pool
}

func newExaminer() *examiner {
	ctx, cancel := context.WithCancel(context.Background())
	return &examiner{ctx: ctx, cancel: cancel, slot: make(chan struct{}, 1)}
}

// start runs do, unless it is closed.
func (e *examiner) start(do func(ctx context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.done.Go(func() { do(e.ctx) })
	}
}

// acquirePool returns a pool of one connection to where pool leads. It is closed when all have left it.
func (e *examiner) acquirePool(pool *pgxpool.Pool) (*pgxpool.Pool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users == 0 {
		own, err := consumerPool(pool, 1)
		if err != nil {
			return nil, err
		}
		e.pool = own
	}
	e.users++
	return e.pool, nil
}

func (e *examiner) releasePool() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users--; e.users == 0 {
		closePool(e.pool)
	}
}

// runExclusive runs do when it is this one's turn, unless ctx ends before that.
func (e *examiner) runExclusive(ctx context.Context, do func()) {
	select {
	case e.slot <- struct{}{}:
		defer func() { <-e.slot }()
		do()
	case <-ctx.Done():
	}
}

// close ends it. The suspects are released.
func (e *examiner) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.done.Wait()
}
