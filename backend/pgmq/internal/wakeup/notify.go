package wakeup

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Channel is where publishers notify, with the name of the queue. PGMQ's own
// enable_notify_insert is not used: its trigger updates one row for all
// publishers of a queue, which makes them wait for each other, deadlocks
// transactions that publish to two queues, and falls silent after a crash
// (PGMQ 1.11.1: the row is in an unlogged table).
const Channel = "ezq"

// Pauses is what the channel carries when a pause of some queue has begun or ended. No queue has this name.
const Pauses = "pgmq.ezq_pauses"

// Removals is what the channel carries when messages of queue were removed that consumers had. No queue has this name.
func Removals(queue string) string { return "pgmq.ezq_removals " + queue }

const (
	// notifyMin and notifyMax bound the pause after a notification. It doubles while
	// there is something to notify after each pause: a consumer that gets messages all
	// the time looks for them by itself. And it is notifyShare times as long as the
	// notification took, or more: NOTIFY takes a lock that all databases of a server
	// share until it has committed, so where many processes notify, all of them do it
	// less often.
	notifyMin   = 2 * time.Millisecond
	notifyMax   = 50 * time.Millisecond
	notifyShare = 8

	notifyTimeout = 5 * time.Second
)

// Notifier tells other processes what was published. It is only a hint, so it is
// not part of the publish: NOTIFY makes commits wait for each other. The first
// publish is notified at once, and those that follow during the pause together
// after it.
type Notifier struct {
	pool *pgxpool.Pool

	mu      sync.Mutex
	dirty   map[string]bool // queues to notify
	running bool
	closed  bool
	done    sync.WaitGroup
}

// NewNotifier returns a notifier that sends through pool. Close it.
func NewNotifier(pool *pgxpool.Pool) *Notifier {
	return &Notifier{pool: pool, dirty: map[string]bool{}}
}

// Notify says that queue has a new message.
func (n *Notifier) Notify(queue string) {
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

// NotifySQL notifies on the channel $1, with the names of the queues $2.
const NotifySQL = notifySQL + ifRoomSQL

const (
	notifySQL = "select pg_catalog.pg_notify($1::text, queue) from pg_catalog.unnest($2::text[]) as queue"
	ifRoomSQL = " where (select " + transact.NotificationsHaveRoomSQL + ")"
)

// hintSQL is NotifySQL that does not wait for the disk, with that lock in its hand: a crash
// loses only hints.
const hintSQL = notifySQL + ", pg_catalog.set_config('synchronous_commit', 'off', true)" + ifRoomSQL

// run notifies until there was nothing to notify for a pause.
func (n *Notifier) run() {
	for pause := notifyMin; ; pause = min(2*pause, notifyMax) {
		queues, ok := n.take()
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
		start := time.Now()
		// It may fail: consumers also look by themselves.
		_, _ = n.pool.Exec(ctx, hintSQL, pgx.QueryExecModeCacheDescribe, Channel, queues)
		cancel()
		time.Sleep(min(max(pause, notifyShare*time.Since(start)), notifyMax))
	}
}

func (n *Notifier) take() (queues []string, ok bool) {
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

// Close sends what is left and waits for it.
func (n *Notifier) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.done.Wait()
}

// Throttle lets a queue through once in a notifyMax. It is for notifications that
// are part of a transaction, which holds that lock until it is on the disk.
type Throttle struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// NewThrottle returns a throttle that lets each queue through.
func NewThrottle() *Throttle { return &Throttle{last: map[string]time.Time{}} }

// Allow reports whether queue may be notified now.
func (t *Throttle) Allow(queue string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.last[queue]) < notifyMax {
		return false
	}
	bounded.Set(t.last, queue, now) // a queue that is left out is let through once more
	return true
}
