package wakeup

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

const (
	listenTimeout       = 5 * time.Second        // of a statement, and of the self-test
	listenPing          = 5 * time.Second        // between two pings of a silent connection
	relistenMin         = 100 * time.Millisecond // before connecting again,
	relistenMax         = 5 * time.Second        // and at most,
	relistenUndelivered = time.Minute            // or at most where nothing is heard
)

// Listener turns notifications into wakeups. It has a connection of its own, which
// it tests: a connection that is cut off says nothing, and one that goes through
// a pooler in transaction mode accepts LISTEN and then hears little. Whatever it
// misses, subscriptions find by looking.
type Listener struct {
	pool    *pgxpool.Config
	wakeups *Signals
	logger  *slog.Logger
	cancel  context.CancelFunc
	done    sync.WaitGroup

	hears atomic.Bool // a session listens

	mu     sync.Mutex
	queues map[string]bool
	gates  map[string]*gate // by what the channel carries
	more   chan struct{}    // holds a token when queues has grown
}

// NewListener returns a listener that connects as pool does. Close it.
func NewListener(pool *pgxpool.Config, wakeups *Signals, logger *slog.Logger) *Listener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{
		pool: pool, wakeups: wakeups, logger: logger, cancel: cancel,
		queues: map[string]bool{}, gates: map[string]*gate{}, more: make(chan struct{}, 1),
	}
	l.gates[Pauses] = l.gate(Pauses)
	l.done.Go(func() { l.run(ctx) })
	return l
}

// Add listens for queue too.
func (l *Listener) Add(queue string) {
	l.mu.Lock()
	if !l.queues[queue] {
		l.queues[queue] = true
		for _, payload := range [...]string{queue, Removals(queue)} {
			l.gates[payload] = l.gate(payload)
		}
	}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// Hears reports whether notifications arrive, as far as known.
func (l *Listener) Hears() bool { return l.hears.Load() }

// Close ends the connection.
func (l *Listener) Close() {
	l.cancel()
	l.done.Wait()
}

var (
	// errNotifyNotDelivered is a connection on which notifications do not arrive.
	errNotifyNotDelivered = errors.New("notifications do not arrive on this connection")

	// errBehindPooler is a connection on which they need not. A pooler in transaction mode
	// would keep LISTEN for a session that serves others, too.
	errBehindPooler = errors.New("the connection goes through a pooler, which may not pass on notifications")
)

func (l *Listener) run(ctx context.Context) {
	wait, undelivered := relistenMin, false
	for ctx.Err() == nil {
		listened, err := l.session(ctx, undelivered)
		if errors.Is(err, errBehindPooler) || errors.Is(err, errNotifyNotDelivered) && !undelivered {
			l.logger.Warn("ezq: cannot listen for notifications; looking for messages at intervals instead", "error", err)
		}
		if errors.Is(err, errBehindPooler) {
			return
		}
		if listened {
			wait = relistenMin
		}
		if ctx.Err() != nil {
			return
		}
		longest := relistenMax
		if undelivered = !listened && (undelivered || errors.Is(err, errNotifyNotDelivered)); undelivered {
			longest = relistenUndelivered
		}
		l.logger.Debug("ezq: the listening connection ended; connecting again", "retry_in", wait.Round(time.Millisecond).String(), "error", fault.WithoutSecrets(err))
		timer := time.NewTimer(wait/2 + rand.N(wait/2)) //nolint:gosec // chance only spreads load, and may be guessed
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, longest)
	}
}

// session listens until its connection fails. listened says whether it did, which is
// news if notifications were undelivered in the last session.
func (l *Listener) session(ctx context.Context, undelivered bool) (listened bool, err error) {
	conn, err := dial.Connect(ctx, l.pool)
	if err != nil {
		return false, err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenTimeout)
		defer cancel()
		_ = conn.Close(bounded)
	}()
	if err := l.selfTest(ctx, conn); err != nil {
		return false, err
	}
	if undelivered {
		l.logger.Info("ezq: notifications arrive again")
	}
	l.hears.Store(true)
	defer l.hears.Store(false)
	l.wakeups.Signal(Pauses) // there may have been one before this session
	listening := map[string]bool{}
	for {
		if err := l.listen(ctx, conn, listening); err != nil {
			return true, err
		}
		notification, err := l.wait(ctx, conn)
		if err != nil {
			return true, err
		}
		if notification != nil {
			l.hear(notifiedQueue(notification))
		}
	}
}

func (l *Listener) gate(payload string) *gate {
	return &gate{pass: func() { l.wakeups.Signal(payload) }}
}

// hear passes on a notification, if it is one that this process waits for: a payload can be any text.
func (l *Listener) hear(payload string) {
	l.mu.Lock()
	gate := l.gates[payload]
	l.mu.Unlock()
	if gate != nil {
		gate.heard()
	}
}

// selfTest listens, and sees whether its own notification comes back.
func (l *Listener) selfTest(ctx context.Context, conn *pgx.Conn) error {
	bounded, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	var backend uint32
	if err := conn.QueryRow(bounded, "select pg_backend_pid()", pgx.QueryExecModeExec).Scan(&backend); err != nil {
		return err
	}
	if dial.IsBehindPooler(conn, backend) {
		return errBehindPooler
	}
	if _, err := conn.Exec(bounded, "listen "+Channel); err != nil {
		return err
	}
	if _, err := conn.Exec(bounded, "select pg_catalog.pg_notify($1, '')", pgx.QueryExecModeExec, Channel); err != nil {
		return err
	}
	for {
		notification, err := conn.WaitForNotification(bounded)
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return errNotifyNotDelivered
		}
		if err != nil {
			return err
		}
		if notification.PID == conn.PgConn().PID() || notification.Payload == "" {
			return nil
		}
	}
}

// listen listens to the channels that PGMQ's own triggers use, for clients that
// have enabled them, and lets all new subscriptions look once.
func (l *Listener) listen(ctx context.Context, conn *pgx.Conn, listening map[string]bool) error {
	bounded, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	l.mu.Lock()
	var added []string
	for queue := range l.queues {
		if !listening[queue] {
			added = append(added, queue)
		}
	}
	l.mu.Unlock()
	for _, queue := range added {
		if _, err := conn.Exec(bounded, "listen "+pgx.Identifier{triggerPrefix + queue + triggerSuffix}.Sanitize()); err != nil {
			return err
		}
		listening[queue] = true
		l.wakeups.Signal(queue)
	}
	return nil
}

// The channel of PGMQ's trigger: notify_queue_listeners in PGMQ 1.11.1.
const (
	triggerPrefix = "pgmq.q_"
	triggerSuffix = ".INSERT"
)

func notifiedQueue(n *pgconn.Notification) string {
	if n.Channel == Channel {
		return n.Payload
	}
	return strings.TrimSuffix(strings.TrimPrefix(n.Channel, triggerPrefix), triggerSuffix)
}

// wait waits for a notification, or for another queue to listen to. It pings
// the server if it hears nothing.
func (l *Listener) wait(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, listenPing)
	defer cancel()
	stop := make(chan struct{})
	var waker sync.WaitGroup
	waker.Go(func() {
		select {
		case <-l.more:
			cancel()
		case <-stop:
		}
	})
	notification, err := conn.WaitForNotification(waiting)
	close(stop)
	waker.Wait()
	if err == nil || ctx.Err() != nil || waiting.Err() == nil {
		return notification, err
	}
	bounded, cancelPing := context.WithTimeout(ctx, listenTimeout)
	defer cancelPing()
	return nil, conn.Ping(bounded)
}
