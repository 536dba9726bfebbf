package pauses

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

const (
	refreshTimeout = 5 * time.Second

	// lockTimeout is for how long a refresh waits for a table that is locked. Subscriptions wait for it.
	lockTimeout = "100ms"

	// heardInterval is the time between two queries of a process that hears notifications.
	heardInterval = 15 * time.Second

	// endInterval is between two looks at a pause that is over by the clock here, and not by that of PostgreSQL.
	endInterval = 100 * time.Millisecond

	// trustedFor is for how long a table that is trusted is not checked again.
	trustedFor = 5 * time.Minute
)

// Watcher follows the pauses of the queues that a process consumes. It queries them when it hears of a change, and at
// intervals: each time for all that wait for it.
type Watcher struct {
	config WatcherConfig
	cancel context.CancelFunc
	asked  chan struct{} // holds a token when next was asked for
	ended  chan struct{} // closed when no more refreshes come

	// These are for the goroutine that refreshes.
	exists       bool      // the table was there
	trustedUntil time.Time // the table is trusted, and is not checked before then
	warned       bool      // the table cannot be used, and that was logged

	mu      sync.Mutex                 // guards what follows
	next    *refresh                   // that has not begun
	queues  map[string]Consumers       // that are consumed, and the topics' own
	held    map[string]*backend.Paused // by queue
	changed chan struct{}              // closed, and replaced, when held has changed
}

// refresh is one query, for which many may wait.
type refresh struct {
	done chan struct{} // closed when it has ended
	err  error
}

func newRefresh() *refresh { return &refresh{done: make(chan struct{})} }

// WatcherConfig is what a watcher works with.
type WatcherConfig struct {
	Pool     *pgxpool.Pool
	Interval time.Duration // between two queries of a process that hears no notifications
	Hears    func() bool   // whether this process hears notifications now
	Wakeups  *wakeup.Signals
	Logger   *slog.Logger
}

// NewWatcher returns a watcher of no queue. Close it.
func NewWatcher(config WatcherConfig) *Watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := newWatcher(config)
	w.cancel = cancel
	go w.run(ctx)
	return w
}

func newWatcher(config WatcherConfig) *Watcher {
	return &Watcher{
		config: config, asked: make(chan struct{}, 1), ended: make(chan struct{}), next: newRefresh(),
		queues: map[string]Consumers{}, held: map[string]*backend.Paused{}, changed: make(chan struct{}),
	}
}

// Watch finds out whether consumers are paused, or all of their topic, whose queue own is, and follows that from now
// on. It waits for a query that begins after the call, and not beyond ctx.
func (w *Watcher) Watch(ctx context.Context, own string, consumers Consumers) {
	w.mu.Lock()
	w.queues[own] = Consumers{Topic: consumers.Topic, Queue: own}
	w.queues[consumers.Queue] = consumers
	next := w.next
	w.mu.Unlock()
	select {
	case w.asked <- struct{}{}:
	default:
	}
	select {
	case <-next.done:
		if next.err != nil {
			w.config.Logger.Warn("ezq: cannot find out whether the topic is paused; fetching begins", "topic", consumers.Topic, "queue", consumers.Queue, "error", fault.WithoutSecrets(next.err))
		}
	case <-ctx.Done():
	case <-w.ended:
	}
}

// Paused returns the pause that holds for the consumers of queue, whose topic has the queue own, or nil; and
// a channel that is closed when that may have changed.
func (w *Watcher) Paused(own, queue string) (*backend.Paused, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	paused := w.held[own]
	if of := w.held[queue]; of != nil && (paused == nil || of.Outlasts(*paused)) {
		paused = of
	}
	return paused, w.changed
}

// Close ends the queries.
func (w *Watcher) Close() {
	w.cancel()
	<-w.ended
}

// run refreshes until ctx ends.
func (w *Watcher) run(ctx context.Context) {
	defer close(w.ended)
	for told := w.config.Wakeups.Next(wakeup.Pauses); w.wait(ctx, told); {
		told = w.config.Wakeups.Next(wakeup.Pauses) // before the query, so that no change is missed
		begun := w.begin()
		begun.err = w.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		close(begun.done)
		if begun.err != nil {
			w.config.Logger.Debug("ezq: cannot find out whether topics are paused; the known pauses hold", "error", fault.WithoutSecrets(begun.err))
		}
	}
}

// wait waits until it is time to refresh, and reports whether ctx lives.
func (w *Watcher) wait(ctx context.Context, told <-chan struct{}) bool {
	timer := time.NewTimer(w.untilNext())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.asked:
	case <-told:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// begin returns the refresh that all wait for who have asked until now. Later ones wait for the next.
func (w *Watcher) begin() *refresh {
	w.mu.Lock()
	defer w.mu.Unlock()
	begun := w.next
	w.next = newRefresh()
	return begun
}

// untilNext returns how long until the next refresh, unless a notification comes first: also when a pause ends.
func (w *Watcher) untilNext() time.Duration {
	next := w.config.Interval
	if w.config.Hears() {
		next = max(next, heardInterval)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, paused := range w.held {
		if !paused.Until.IsZero() {
			next = min(next, max(time.Until(paused.Until), endInterval))
		}
	}
	return next
}

// refresh brings held up to date. A table that cannot be used pauses nothing, which is logged.
func (w *Watcher) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	found, err := w.find(ctx)
	if fault.IsCode(err, "42P01") { // undefined_table: it was dropped
		w.exists, err = false, nil
	}
	unusable, isUnusable := errors.AsType[*fault.Error](ownTable(consumerRights).Explain(err))
	if isUnusable && !w.warned {
		w.config.Logger.Warn("ezq: pauses cannot be read; no topic counts as paused", "error", unusable)
	}
	w.warned = isUnusable
	if err != nil && !isUnusable {
		return err
	}
	w.set(found)
	return nil
}

// find returns the pauses that hold, by queue.
func (w *Watcher) find(ctx context.Context) (map[string]*backend.Paused, error) {
	w.mu.Lock()
	queues := maps.Clone(w.queues)
	w.mu.Unlock()
	if len(queues) == 0 {
		return nil, nil
	}
	if !w.exists {
		exists, err := transact.Value[bool](ctx, w.config.Pool, "select pg_catalog.to_regclass($1::text) is not null", tableName)
		if err != nil || !exists {
			return nil, err
		}
	}
	if now := time.Now(); now.After(w.trustedUntil) {
		if err := catalog.RequireTrusted(ctx, w.config.Pool, []string{tableName}, ""); err != nil {
			return nil, err
		}
		w.trustedUntil = now.Add(trustedFor)
	}
	all, err := w.query(ctx, queues)
	if err != nil {
		return nil, err
	}
	w.exists = true
	held := map[string]*backend.Paused{}
	for _, r := range all {
		paused := r.of(queues)
		held[r.Queue] = &paused
	}
	return held, nil
}

// query returns the pauses of queues. It does not wait for long for a table that is locked.
func (w *Watcher) query(ctx context.Context, queues map[string]Consumers) (all []row, err error) {
	err = transact.Run(ctx, w.config.Pool, "lock_timeout = '"+lockTimeout+"'", func(tx pgx.Tx) error {
		all, err = query(ctx, tx, heldFile, queuesOf(queues), nil, maxListed)
		return err
	})
	return all, err
}

// set replaces what is known, and closes changed if that is something else.
func (w *Watcher) set(found map[string]*backend.Paused) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if maps.EqualFunc(w.held, found, func(a, b *backend.Paused) bool { return *a == *b }) {
		return
	}
	w.held = found
	close(w.changed)
	w.changed = make(chan struct{})
}
