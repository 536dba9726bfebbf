package lease

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
)

// Examiner examines the suspects of all queues. One queue at a time has a turn, which is a
// step of some seconds, so that the suspects of one keep no other waiting for long. All of
// them share a connection, which is open while there is something to look at.
type Examiner struct {
	ctx    context.Context //nolint:containedctx // that of its goroutines: it ends with Close
	cancel context.CancelFunc
	slot   chan struct{}
	done   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	users  int // of the pool
	pool   *pgxpool.Pool
}

// NewExaminer returns an examiner that has nothing to do yet. Close it.
func NewExaminer() *Examiner {
	ctx, cancel := context.WithCancel(context.Background())
	return &Examiner{ctx: ctx, cancel: cancel, slot: make(chan struct{}, 1)}
}

// start runs do, unless it is closed.
func (e *Examiner) start(do func(ctx context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.done.Go(func() { do(e.ctx) })
	}
}

// acquirePool returns a pool of one connection to where pool leads. It is closed when all have left it.
func (e *Examiner) acquirePool(pool *pgxpool.Pool) (*pgxpool.Pool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users == 0 {
		own, err := dial.ConsumerPool(pool, 1)
		if err != nil {
			return nil, err
		}
		e.pool = own
	}
	e.users++
	return e.pool, nil
}

func (e *Examiner) releasePool() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users--; e.users == 0 {
		dial.ClosePool(e.pool)
	}
}

// runExclusive runs do when it is this one's turn, unless ctx ends before that.
func (e *Examiner) runExclusive(ctx context.Context, do func()) {
	select {
	case e.slot <- struct{}{}:
		defer func() { <-e.slot }()
		do()
	case <-ctx.Done():
	}
}

// Close ends it. The suspects are released.
func (e *Examiner) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.done.Wait()
}
