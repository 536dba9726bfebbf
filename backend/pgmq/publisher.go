package pgmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/condition"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/insert"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// Publisher is a Watermill Publisher on PGMQ. Create it with [NewPublisher], or
// take a [Client], which is one. Its methods may be called concurrently, as far
// as its database handle allows that: a pool does, a transaction does not.
type Publisher struct {
	db       DBTX
	create   catalog.Creator // nil with NoCreate
	pool     *pgxpool.Pool   // nil if db is something else
	inTx     bool
	config   PublisherConfig
	routes   *catalog.Routes
	wakeups  *wakeup.Signals
	commits  *insert.GroupCommit
	prepared *condition.Prepared
	closed   *atomic.Bool

	notifier *wakeup.Notifier // nil without a pool, or with NoNotify
	throttle *wakeup.Throttle // of notifications in transactions
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a publisher that sends through db, usually a pool. Given
// a transaction, its messages become visible when that commits. db stays the
// caller's. A nil config is that of the defaults. The publisher returns its errors, and
// logs nothing.
func NewPublisher(db DBTX, config *PublisherConfig) (*Publisher, error) {
	if db == nil {
		return nil, &Error{Op: "configure", Kind: ErrInvalidConfig, Cause: errors.New("db is nil"), Remedy: "pass a *pgxpool.Pool"}
	}
	settings, err := orZero(config).withDefaults()
	if err != nil {
		return nil, err
	}
	pool, _ := db.(*pgxpool.Pool)
	p := newPublisher(db, pool, settings, wakeup.NewSignals(), catalog.New())
	_, p.inTx = db.(pgx.Tx)
	return p, nil
}

// newPublisher returns a publisher that sends through db. pool is the same, or
// nil if db is something else.
func newPublisher(db DBTX, pool *pgxpool.Pool, config PublisherConfig, wakeups *wakeup.Signals, queues *catalog.Catalog) *Publisher {
	p := &Publisher{
		db: db, pool: pool, config: config, routes: catalog.NewRoutes(queues), wakeups: wakeups,
		commits: insert.NewGroupCommit(), prepared: condition.NewPrepared(), closed: new(atomic.Bool), throttle: wakeup.NewThrottle(),
	}
	if !config.NoCreate {
		p.create = catalog.CreateWith(db)
	}
	if pool != nil && !config.NoNotify {
		p.notifier = wakeup.NewNotifier(pool)
	}
	return p
}

func (p *Publisher) withTx(tx DBTX) *Publisher {
	inside := *p
	inside.db, inside.inTx = tx, true
	switch {
	case p.create == nil:
	case p.pool == nil:
		inside.create = catalog.CreateWith(tx)
	default:
		inside.create = catalog.CreateSeparately(p.pool)
	}
	return &inside
}

// withConn returns p on a connection of its pool.
func (p *Publisher) withConn(conn *pgxpool.Conn) *Publisher {
	on := *p
	on.db, on.commits = conn, insert.NewGroupCommit()
	if p.create != nil {
		on.create = catalog.CreateWith(conn)
	}
	return &on
}

// Features reports the promises of this backend: see [backend.Features].
func (p *Publisher) Features() backend.Features { return features() }

// Publish stores the messages in the queue of topic, and in each queue that is bound to
// it, as those of its groups are, with one statement: all of them or none. If topic has
// groups and no queue of its own, it stores them for the groups; otherwise it creates
// the queue, where the messages wait for their subscriber. It honours the delays of
// [backend.SetDelay], [backend.SetDeliverAt] and Watermill's components/delay, to the
// microsecond and by the clock of PostgreSQL.
//
// It returns nil when they are committed, or, in a transaction, when they will
// be with it. An error is an [*Error] that matches [ErrRejected] if certainly
// nothing was stored, or [ErrUnknownOutcome] if the messages may have been, as
// when the connection broke while the answer was on its way. Publish does not
// repeat a statement whose outcome is unknown.
//
// The context of the first message bounds the call; if it has no deadline, the
// bound is 30 seconds. With a [backend.ScheduleTick] in it the messages are stored once for
// that tick. The state of schedules is in a queue of its own, ezq_schedules, which is
// created like that of a topic; the role needs SELECT, INSERT and UPDATE on it. Programs
// that have these rights share their schedules: each can stop those of the others.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if err := p.checkOpen(); err != nil {
		return err
	}
	if len(msgs) == 0 {
		return nil
	}
	err := p.publish(topic, msgs)
	if err == nil {
		return nil
	}
	failure := fault.Classify("publish", topic, err)
	if e := (*Error)(nil); errors.As(failure, &e) && e.Outcome == nil {
		e.Outcome = ErrRejected
		if sent := (*insert.SendError)(nil); errors.As(err, &sent) && !p.inTx {
			e.Outcome = fault.PublishOutcome(sent.Cause)
		}
		if p.inTx && fault.IsCode(err, "25006") { // read_only_sql_transaction
			e.Remedy = "begin the transaction read-write; if it is, " + e.Remedy
		}
	}
	return failure
}

func (p *Publisher) publish(topic string, msgs []*message.Message) error {
	if err := checkPublishTopic(topic); err != nil {
		return err
	}
	encoded, err := insert.Encode(msgs, p.config.MaxPayloadBytes)
	if err != nil {
		return err
	}
	ctx := msgs[0].Context()
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, insert.Timeout)
		defer cancel()
	}
	if p.pool != nil && !p.inTx && inHandlerTx(ctx, p.pool) {
		conn, err := acquire(ctx, p.pool)
		if err != nil {
			return err
		}
		defer conn.Release()
		p = p.withConn(conn)
	}
	if tick := backend.ScheduleTickFromContext(ctx); tick != nil {
		return p.publishTick(ctx, topic, encoded, tick)
	}
	send := func(ctx context.Context, batch insert.Batch) error { return p.send(ctx, topic, batch) }
	if p.inTx {
		if tx, ok := p.db.(pgx.Tx); ok && tx.Conn() != nil { // not every one is looked up with this connection
			if err := dial.RequireUTF8(tx.Conn().PgConn()); err != nil {
				return err
			}
		}
		return send(ctx, encoded)
	}
	if encoded.Conditions != nil {
		return p.publishConditional(ctx, topic, encoded, send)
	}
	return p.commits.Write(ctx, topic, encoded, send)
}

// publishConditional publishes messages of which some have conditions. Concurrent calls share statements of their kind, which messages
// without a condition do not pay for. Where another transaction has published the same ID or key, a call waits for the
// end of that by itself, without a connection that others could use.
func (p *Publisher) publishConditional(ctx context.Context, topic string, batch insert.Batch, send func(context.Context, insert.Batch) error) error {
	const shortest, longest = 5 * time.Millisecond, 250 * time.Millisecond
	kind, taken := "IDs\x00", false
	if batch.IsKeyed() {
		kind, batch.Taken = "keys\x00", []*bool{&taken}
		if batch.Conditions[0].Replace {
			kind = "keys that repeat\x00"
		}
	}
	err := p.commits.Write(ctx, kind+topic, batch, send)
	for pause := shortest; errors.Is(err, condition.ErrTaken) || err == nil && taken; pause = min(2*pause, longest) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", condition.ErrTaken, context.Cause(ctx))
		case <-time.After(pause):
			taken = false
			err = send(ctx, batch)
		}
	}
	return err
}

// routePatience is for how long a publish looks again for the queues of its topic. What is bound to any topic counts as
// a change, so many services that begin at once have it look more often than a few times.
const routePatience = 10 * time.Second

// send stores a batch. If the topic's queues are not those that we know of, which
// the server tells without storing anything, it looks again.
func (p *Publisher) send(ctx context.Context, topic string, batch insert.Batch) error {
	const attempts = 5
	var before *catalog.Route
	began := time.Now()
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		to, err := p.routes.Find(ctx, p.db, topic, p.create)
		if err != nil {
			return err
		}
		store := p.insert
		if batch.Conditions != nil {
			store = p.insertConditional
		}
		stored, err := store(ctx, to, batch)
		if err == nil && stored {
			return nil
		}
		gone := fault.IsCode(err, "42P01") // a queue was dropped
		if err == nil || gone {
			p.routes.Forget(topic, to)
		}
		if fault.IsCode(err, "42501") {
			p.routes.Forget(topic, to)
			if batch.Conditions == nil && !fault.IsAbout(err, fault.ThrottleTable) {
				err = to.Denied(topic)
			}
			return err
		}
		if err != nil && (attempt >= attempts || !gone || p.inTx) { // a transaction has failed with it
			return err
		}
		changes := before != nil && before.Version != to.Version && !p.inTx // which may never see a change
		if before = to; attempt >= attempts && (!changes || time.Since(began) > routePatience) {
			return to.WhyNotStored(ctx, p.db)
		}
	}
}

// insert stores a batch, and reports whether it did: nothing is stored if the route is old.
//
// Unlike other statements it may stay prepared, as far as the handle is set up
// for that and there is no pooler: it looks at no table whose plan could go stale,
// and planning it costs as much as running it.
func (p *Publisher) insert(ctx context.Context, to *catalog.Route, batch insert.Batch) (stored bool, err error) {
	args := []any{batch.Messages, batch.Headers, batch.Delays, batch.Times, to.Version}
	statement := to.Insert
	switch {
	case p.notifiesInTx(to.Queues):
		statement = to.InsertAndNotify
		args = append(args, wakeup.Channel)
	case batch.Len() == 1 && to.InsertOne != "" && !p.inTx:
		statement = to.InsertOne
		args = []any{batch.Messages[0], batch.Headers[0], batch.Delays[0], batch.Times[0], to.Version}
	}
	if to.Pooled {
		args = slices.Insert(args, 0, any(pgx.QueryExecModeCacheDescribe))
	}
	tag, err := p.db.Exec(ctx, statement, args...)
	if err != nil {
		return false, &insert.SendError{Cause: err}
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	p.notify(to.Queues)
	return true, nil
}

// insertConditional is insert for messages of which some have conditions, to which it reports.
func (p *Publisher) insertConditional(ctx context.Context, to *catalog.Route, batch insert.Batch) (stored bool, err error) {
	conditional := condition.Insert{Route: to, Batch: batch, Window: p.config.IDWindow}
	preparer := condition.Preparer{DB: p.db, Transaction: p.inTx, NoCreate: p.create == nil, Prepared: p.prepared}
	if p.inTx {
		preparer.Pool = p.pool
	}
	if err := preparer.Prepare(ctx, &conditional); err != nil {
		return false, err
	}
	if err := conditional.CheckIDs(); err != nil {
		return false, err
	}
	results, err := p.runConditional(ctx, &conditional)
	if fault.IsCode(err, "42P01") {
		p.prepared.Forget()
		if !p.inTx { // what is gone is created, and the batch tried again; a transaction has failed with it
			return false, err
		}
	}
	if err != nil {
		return false, condition.Explain(err, &conditional)
	}
	if results == nil {
		return false, nil
	}
	if !batch.Report(results) {
		return true, nil
	}
	p.notify(to.Queues)
	if p.notifiesInTx(to.Queues) {
		_, err = p.db.Exec(ctx, wakeup.NotifySQL, pgx.QueryExecModeCacheDescribe, wakeup.Channel, to.Queues)
	}
	return err == nil, err
}

// runConditional runs an insert in the transaction of the publisher, or by itself.
func (p *Publisher) runConditional(ctx context.Context, conditional *condition.Insert) (results []insert.Result, err error) {
	if db, ok := p.db.(transact.RowQueryer); ok && p.inTx {
		results, err = conditional.Run(ctx, db)
		return results, sendError(err)
	}
	if !conditional.Batch.IsKeyed() {
		if err := p.forgetIDs(ctx, conditional.Batch.Len()); err != nil {
			return nil, err
		}
	}
	db, ok := p.db.(condition.DB)
	alone := ok && !p.prepared.Begins() && (!conditional.Batch.IsKeyed() || !conditional.Route.Pooled) // a batch would prepare its statements
	if alone {
		if results, err = conditional.Try(ctx, db); err != nil || results != nil {
			return results, sendError(err)
		}
	}
	err = p.transact(ctx, func(inside *Publisher) (err error) {
		results, err = conditional.TryIn(ctx, inside.db.(pgx.Tx)) //nolint:forcetypeassert // transact passes one
		return err
	})
	if alone && err == nil && results != nil {
		p.prepared.MustBegin()
	}
	return results, err
}

// forgetIDs forgets some IDs whose time is over, if it is time for that.
func (p *Publisher) forgetIDs(ctx context.Context, published int) error {
	ids := p.prepared.Forgettable(published)
	if ids == 0 {
		return nil
	}
	return p.transact(ctx, func(inside *Publisher) error {
		return condition.ForgetIDs(ctx, inside.db.(pgx.Tx), ids) //nolint:forcetypeassert // transact passes one
	})
}

// sendError marks an error of the statement that stores messages.
func sendError(err error) error {
	if err == nil || errors.Is(err, condition.ErrTaken) {
		return err
	}
	return &insert.SendError{Cause: err}
}

// notifiesInTx reports whether a publish to the queues is to notify in the caller's transaction: of
// many that follow each other, one does.
func (p *Publisher) notifiesInTx(queues []string) bool {
	return p.inTx && !p.config.NoNotify && p.throttle.Allow(queues[0])
}

// notify wakes the consumers, unless the messages are not visible yet.
func (p *Publisher) notify(queues []string) {
	if p.inTx {
		return
	}
	for _, queue := range queues {
		p.wakeups.Signal(queue)
		if p.notifier != nil {
			p.notifier.Notify(queue)
		}
	}
}

// checkOpen returns an error if the publisher is closed.
func (p *Publisher) checkOpen() error {
	if p.closed.Load() {
		return backend.ErrClosed
	}
	return nil
}

// ownQueue returns the queue of a topic itself, as that of a dead-letter topic is: dead letters are
// not copied to groups.
func (p *Publisher) ownQueue(topic string) (string, error) {
	if err := p.checkOpen(); err != nil {
		return "", err
	}
	return queuename.Of(topic)
}

// Close makes further calls of Publish fail with [backend.ErrClosed]. It does
// not close the database handle, which is the caller's.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	if p.notifier != nil {
		p.notifier.Close()
	}
	return nil
}

// publishTick stores a batch and moves the schedule of tick on, in one transaction. The
// row of the schedule is locked for as long: a concurrent publish waits, and finds
// the tick taken; or not, if this transaction fails.
func (p *Publisher) publishTick(ctx context.Context, topic string, batch insert.Batch, tick *backend.ScheduleTick) error {
	result, err := p.tryPublishTick(ctx, topic, batch, tick)
	if fault.IsCode(err, "42P01") && !p.inTx { // a queue was dropped, and nothing is stored: it is created now
		result, err = p.tryPublishTick(ctx, topic, batch, tick)
	}
	if err == nil {
		tick.Report(result)
	}
	return scheduleDenied(err, "SELECT (msg_id, message), INSERT (msg_id, vt, message), UPDATE (message)")
}

func (p *Publisher) tryPublishTick(ctx context.Context, topic string, batch insert.Batch, tick *backend.ScheduleTick) (result backend.TickResult, err error) {
	if err := p.routes.Catalog.EnsureTrusted(ctx, p.db, schedulesQueue, p.create); err != nil {
		return result, err
	}
	err = p.transact(ctx, func(inside *Publisher) (err error) {
		result, err = advance(ctx, inside.db, tick)
		if err == nil && result.Outcome == backend.TickPublished {
			err = inside.send(ctx, topic, batch)
		}
		return err
	})
	if fault.IsCode(err, "42P01") {
		p.routes.Catalog.Forget(schedulesQueue)
	}
	return result, err
}

// transact runs do in a transaction: that of the publisher, or one of its own.
func (p *Publisher) transact(ctx context.Context, do func(*Publisher) error) error {
	if _, ok := p.db.(pgx.Tx); ok {
		return do(p)
	}
	db, ok := p.db.(interface {
		BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	})
	if !ok {
		return fmt.Errorf("a tick or a condition cannot be published through a %T, only through a pool, a connection or a pgx.Tx: %w", p.db, errors.ErrUnsupported)
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	if err := do(p.withTx(tx)); err != nil {
		return rolledBack(err)
	}
	if err := tx.Commit(ctx); err != nil {
		return &insert.SendError{Cause: err}
	}
	return nil
}

// rolledBack returns err without the mark that something may have been stored.
func rolledBack(err error) error {
	if sent := (*insert.SendError)(nil); errors.As(err, &sent) {
		return sent.Cause
	}
	return err
}

// DBTX is what publishing needs from PostgreSQL: Exec and Query, as a *pgxpool.Pool,
// a *pgx.Conn and a pgx.Tx have them.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}
