package pauses

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

const (
	refreshTimeout = 5 * time.Second

	// heardInterval is the time between two queries of a process that hears notifications.
	heardInterval = 15 * time.Second

	// endInterval is between two looks at a pause that is over by the clock here, and not by that of PostgreSQL.
	endInterval = 100 * time.Millisecond

	// trustedFor is for how long a table that is trusted is not checked again.
	trustedFor = 5 * time.Minute
)

// Watcher follows the pauses of the queues that a process consumes. It queries them when it hears of a change, and at
// intervals.
type Watcher struct {
	config WatcherConfig
	cancel context.CancelFunc
	done   sync.WaitGroup

	refreshing   sync.Mutex // one refresh at a time; it guards the next three
	exists       bool       // the table was there
	trustedUntil time.Time  // the table is trusted, and is not checked before then
	warned       bool       // the table cannot be used, and that was logged

	mu      sync.Mutex                 // guards what follows
	queues  map[string]bool            // that are consumed, and the topics' own
	held    map[string]*backend.Paused // by queue
	changed chan struct{}              // closed, and replaced, when held has changed
}

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
	w.done.Go(func() { w.run(ctx) })
	return w
}

func newWatcher(config WatcherConfig) *Watcher {
	return &Watcher{config: config, queues: map[string]bool{}, held: map[string]*backend.Paused{}, changed: make(chan struct{})}
}

// Watch finds out whether the consumers of a queue are paused, or all of its topic, whose queue own is, and
// follows that from now on.
func (w *Watcher) Watch(ctx context.Context, topic, own, queue string) {
	w.mu.Lock()
	w.queues[own], w.queues[queue] = true, true
	w.mu.Unlock()
	if err := w.refresh(ctx); err != nil && ctx.Err() == nil {
		w.config.Logger.Warn("ezq: cannot find out whether the topic is paused; fetching begins", "topic", topic, "queue", queue, "error", fault.WithoutSecrets(err))
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
	w.done.Wait()
}

func (w *Watcher) run(ctx context.Context) {
	for {
		told := w.config.Wakeups.Next(wakeup.Pauses)
		wait, changed := w.untilNext()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-told:
		case <-changed: // by a Watch: a pause may end sooner
			timer.Stop()
			continue
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		if err := w.refresh(ctx); err != nil && ctx.Err() == nil {
			w.config.Logger.Debug("ezq: cannot find out whether topics are paused; the known pauses hold", "error", fault.WithoutSecrets(err))
		}
	}
}

// untilNext returns how long until the next refresh, unless a notification comes first: also when a pause ends; and
// a channel that is closed when that has changed.
func (w *Watcher) untilNext() (next time.Duration, changed <-chan struct{}) {
	next = w.config.Interval
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
	return next, w.changed
}

// refresh brings held up to date. A table that cannot be used pauses nothing, which is logged.
func (w *Watcher) refresh(ctx context.Context) error {
	w.refreshing.Lock()
	defer w.refreshing.Unlock()
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
	queues := slices.Collect(maps.Keys(w.queues))
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
	all, err := query(ctx, w.config.Pool, heldFile, queues, nil, maxListed)
	if err != nil {
		return nil, err
	}
	w.exists = true
	held := map[string]*backend.Paused{}
	for _, r := range all {
		paused := r.paused()
		held[r.Queue] = &paused
	}
	return held, nil
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
