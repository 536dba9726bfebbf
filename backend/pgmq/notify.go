package pgmq

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// channel is where publishers notify, with the name of the queue. PGMQ's own
// enable_notify_insert is not used: its trigger updates one row for all
// publishers of a queue, which makes them wait for each other, deadlocks
// transactions that publish to two queues, and falls silent after a crash
// (PGMQ 1.11.1: the row is in an unlogged table).
const channel = "ezq"

const (
	// notifyPause is the least time between two notifications of a queue. A
	// consumer that has been told looks again within less.
	notifyPause = 50 * time.Millisecond

	notifyTimeout = 5 * time.Second
)

// notifier tells other processes what was published. It is only a hint, so it is
// not part of the publish: NOTIFY makes commits wait for each other. The first
// publish is notified at once, and those that follow within notifyPause together
// after it.
type notifier struct {
	pool *pgxpool.Pool

	mu      sync.Mutex
	dirty   map[string]bool // queues to notify
	running bool
	closed  bool
	done    sync.WaitGroup
}

func newNotifier(pool *pgxpool.Pool) *notifier {
	return &notifier{pool: pool, dirty: map[string]bool{}}
}

// notify says that queue has a new message.
func (n *notifier) notify(queue string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.dirty[queue] = true
	if !n.running {
		n.running = true
		n.done.Go(n.run)
	}
}

// run notifies until there is nothing to notify for a notifyPause.
func (n *notifier) run() {
	for {
		queues, ok := n.take()
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
		// It may fail: consumers also look by themselves.
		_, _ = n.pool.Exec(ctx, "select pg_notify($1, queue) from unnest($2::text[]) as queue",
			pgx.QueryExecModeCacheDescribe, channel, queues)
		cancel()
		pause := time.NewTimer(notifyPause)
		<-pause.C
	}
}

func (n *notifier) take() (queues []string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.dirty) == 0 {
		n.running = false
		return nil, false
	}
	for queue := range n.dirty {
		queues = append(queues, queue)
	}
	clear(n.dirty)
	return queues, true
}

// close sends what is left and waits for it.
func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.done.Wait()
}

// throttle lets a queue through once in a notifyPause.
type throttle struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func newThrottle() *throttle { return &throttle{last: map[string]time.Time{}} }

func (t *throttle) allow(queue string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.last[queue]) < notifyPause {
		return false
	}
	t.last[queue] = now
	return true
}
