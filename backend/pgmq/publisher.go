package pgmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
)

// Publisher is a Watermill Publisher on PGMQ. Create it with [NewPublisher], or
// take a [Client], which is one. Its methods may be called concurrently, as far
// as its database handle allows that: a pool does, a transaction does not.
type Publisher struct {
	db      DBTX
	create  creator       // nil with NoCreate
	pool    *pgxpool.Pool // nil if db is something else
	inTx    bool
	config  PublisherConfig
	routes  *routes
	wakeups *wakeups
	commits *groupCommit
	closed  *atomic.Bool

	notifier *notifier // nil without a pool, or with NoNotify
	throttle *throttle // of notifications in transactions
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
	p := newPublisher(db, pool, settings, newWakeups(), newCatalog())
	_, p.inTx = db.(pgx.Tx)
	return p, nil
}

// newPublisher returns a publisher that sends through db. pool is the same, or
// nil if db is something else.
func newPublisher(db DBTX, pool *pgxpool.Pool, config PublisherConfig, wakeups *wakeups, catalog *catalog) *Publisher {
	p := &Publisher{
		db: db, pool: pool, config: config, routes: newRoutes(catalog), wakeups: wakeups,
		commits: newGroupCommit(), closed: new(atomic.Bool), throttle: newThrottle(),
	}
	if !config.NoCreate {
		p.create = createWith(db)
	}
	if pool != nil && !config.NoNotify {
		p.notifier = newNotifier(pool)
	}
	return p
}

func (p *Publisher) withTx(tx DBTX) *Publisher {
	inside := *p
	inside.db, inside.inTx = tx, true
	switch {
	case p.create == nil:
	case p.pool == nil:
		inside.create = createWith(tx)
	default:
		inside.create = createSeparately(p.pool)
	}
	return &inside
}

// withConn returns p on a connection of its pool.
func (p *Publisher) withConn(conn *pgxpool.Conn) *Publisher {
	on := *p
	on.db, on.commits = conn, newGroupCommit()
	if p.create != nil {
		on.create = createWith(conn)
	}
	return &on
}

// Features says that delays are kept: see [backend.Features].
func (p *Publisher) Features() backend.Features { return features() }

// publishTimeout bounds a publish whose context has no deadline of its own.
const publishTimeout = 30 * time.Second

// Publish stores the messages in the queue of topic, and in each queue that is bound to
// it, as those of its groups are, with one statement: all of them or none. If topic has
// groups and no queue of its own, it stores them for the groups; otherwise it creates
// the queue, where the messages wait for their subscriber. It honours the delays of [backend.SetDelay], [backend.SetDeliverAt]
// and Watermill's components/delay, to the microsecond and by the clock of
// PostgreSQL.
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
	if p.closed.Load() {
		return backend.ErrClosed
	}
	if len(msgs) == 0 {
		return nil
	}
	err := p.publish(topic, msgs)
	if err == nil {
		return nil
	}
	failure := classify("publish", topic, err)
	if e := (*Error)(nil); errors.As(failure, &e) && e.Outcome == nil {
		e.Outcome = ErrRejected
		if sent := (*sendError)(nil); errors.As(err, &sent) && !p.inTx {
			e.Outcome = publishOutcome(sent.error)
		}
		if p.inTx && isCode(err, "25006") { // read_only_sql_transaction
			e.Remedy = "begin the transaction read-write; if it is, " + e.Remedy
		}
	}
	return failure
}

func (p *Publisher) publish(topic string, msgs []*message.Message) error {
	if err := checkUserTopic(topic); err != nil {
		return err
	}
	encoded, err := encode(msgs, p.config.MaxPayloadBytes)
	if err != nil {
		return err
	}
	ctx := msgs[0].Context()
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
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
		return p.publishOnce(ctx, topic, encoded, tick)
	}
	send := func(ctx context.Context, batch insertBatch) error { return p.send(ctx, topic, batch) }
	if p.inTx {
		if tx, ok := p.db.(pgx.Tx); ok && tx.Conn() != nil { // not every one is looked up with this connection
			if err := requireUTF8(tx.Conn().PgConn()); err != nil {
				return err
			}
		}
		return send(ctx, encoded)
	}
	if encoded.conditions != nil {
		return send(ctx, encoded)
	}
	return p.commits.write(ctx, topic, encoded, send)
}

// send stores rows. If the topic's queues are not those that we know of, which
// the server tells without storing anything, it looks again.
func (p *Publisher) send(ctx context.Context, topic string, batch insertBatch) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		to, err := p.routes.find(ctx, p.db, topic, p.create)
		if err != nil {
			return err
		}
		insert := p.insert
		if batch.conditions != nil {
			insert = p.insertConditional
		}
		stored, err := insert(ctx, to, batch)
		if err == nil && stored {
			return nil
		}
		gone := isCode(err, "42P01") // a queue was dropped
		if err == nil || gone {
			p.routes.forget(topic, to)
		}
		if isCode(err, "42501") {
			p.routes.forget(topic, to)
			if batch.conditions != nil {
				return conditionDenied(err, to.queues)
			}
			return publishDenied(topic, to.queues)
		}
		if attempt == attempts || err != nil && (!gone || p.inTx) { // a transaction has failed with it
			return firstError(err, errBindings)
		}
	}
}

var errBindings = errors.New("the groups of the topic change faster than messages can be published;" +
	" or the transaction, under REPEATABLE READ, is older than a group")

// insert reports whether the rows are stored; they are not if the route is old.
//
// Unlike other statements it may stay prepared, as far as the handle is set up
// for that and there is no pooler: it looks at no table whose plan could go stale,
// and planning it costs as much as running it.
func (p *Publisher) insert(ctx context.Context, to *route, batch insertBatch) (stored bool, err error) {
	args := []any{batch.messages, batch.headers, batch.delays, batch.times, to.version}
	statement := to.insert
	switch {
	case p.inTx && !p.config.NoNotify && p.throttle.allow(to.queues[0]):
		statement = to.insertAndNotify
		args = append(args, channel)
	case batch.len() == 1 && to.insertOne != "" && !p.inTx:
		statement = to.insertOne
		args = []any{batch.messages[0], batch.headers[0], batch.delays[0], batch.times[0], to.version}
	}
	if to.pooled {
		args = slices.Insert(args, 0, any(pgx.QueryExecModeCacheDescribe))
	}
	tag, err := p.db.Exec(ctx, statement, args...)
	if err != nil {
		return false, &sendError{err}
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	p.notify(to.queues)
	return true, nil
}

// insertConditional is insert for messages of which some have conditions, to which it reports.
func (p *Publisher) insertConditional(ctx context.Context, to *route, batch insertBatch) (stored bool, err error) {
	if err := p.prepare(ctx, to, &batch); err != nil {
		return false, err
	}
	insert := conditionalInsert{to: to, batch: batch, window: p.config.IDWindow}
	results, err := p.run(ctx, &insert)
	if isCode(err, "42P01") {
		p.routes.catalog.forget(idsTable)
	}
	if err != nil || results == nil {
		return false, err
	}
	if !batch.report(results) {
		return true, nil
	}
	p.notify(to.queues)
	if !p.inTx || p.config.NoNotify || !p.throttle.allow(to.queues[0]) {
		return true, nil
	}
	for _, queue := range to.queues {
		if _, err := p.db.Exec(ctx, "select pg_notify($1::text, $2::text)", pgx.QueryExecModeCacheDescribe, channel, queue); err != nil {
			return false, err
		}
	}
	return true, nil
}

// prepare makes sure that there is what the conditions need.
func (p *Publisher) prepare(ctx context.Context, to *route, batch *insertBatch) error {
	preparation := preparation{db: p.db, create: p.create != nil, catalog: p.routes.catalog}
	if p.inTx {
		preparation.pool = p.pool
	}
	if batch.keyed() == nil {
		return preparation.ids(ctx)
	}
	now := time.Now()
	if to.indexed.Load() > now.Unix() {
		return nil
	}
	err := preparation.keys(ctx, to.queues)
	switch {
	case err == nil:
		to.indexed.Store(math.MaxInt64)
	case errors.Is(err, errBusy):
		to.indexed.Store(now.Add(time.Minute).Unix())
		return nil
	}
	return err
}

// run runs insert in the transaction of the publisher, or in one of its own.
func (p *Publisher) run(ctx context.Context, insert *conditionalInsert) (results []backend.PublishResult, err error) {
	row, canRead := p.db.(rowReader)
	batch, canSend := p.db.(batchSender)
	switch {
	case canRead && (p.inTx || insert.lock() == ""):
		results, err = insert.run(ctx, row)
	case canSend && !p.inTx:
		results, err = insert.runTransaction(ctx, batch)
	default:
		return nil, fmt.Errorf("a message with a condition cannot be published through a %T, only through a pool, a connection or a pgx.Tx: %w",
			p.db, errors.ErrUnsupported)
	}
	if err != nil {
		err = &sendError{err}
	}
	return results, err
}

// notify wakes the consumers, unless the messages are not visible yet.
func (p *Publisher) notify(queues []string) {
	if p.inTx {
		return
	}
	for _, queue := range queues {
		p.wakeups.signal(queue)
		if p.notifier != nil {
			p.notifier.notify(queue)
		}
	}
}

// sendError marks an error of the statement that stores the messages. Any other
// error comes before it, when nothing can have been stored.
type sendError struct{ error }

func (e *sendError) Unwrap() error { return e.error }

// Close makes further calls of Publish fail with [backend.ErrClosed]. It does
// not close the database handle, which is the caller's.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	if p.notifier != nil {
		p.notifier.close()
	}
	return nil
}

// publishOnce stores rows and moves the schedule of tick on, in one transaction. The
// row of the schedule is locked for as long: a concurrent publish waits, and finds
// the tick taken; or not, if this transaction fails.
func (p *Publisher) publishOnce(ctx context.Context, topic string, batch insertBatch, tick *backend.ScheduleTick) error {
	result, err := p.tryPublishOnce(ctx, topic, batch, tick)
	if isCode(err, "42P01") && !p.inTx { // a queue was dropped, and nothing is stored: it is created now
		result, err = p.tryPublishOnce(ctx, topic, batch, tick)
	}
	if err == nil {
		tick.Report(result)
	}
	return scheduleDenied(err)
}

func (p *Publisher) tryPublishOnce(ctx context.Context, topic string, batch insertBatch, tick *backend.ScheduleTick) (result backend.TickResult, err error) {
	if err := p.routes.catalog.ensure(ctx, p.db, schedulesQueue, p.create); err != nil {
		return result, err
	}
	err = p.transact(ctx, func(inside *Publisher) (err error) {
		result, err = advance(ctx, inside.db, tick)
		if err == nil && result.Outcome == backend.TickPublished {
			err = inside.send(ctx, topic, batch)
		}
		return err
	})
	if isCode(err, "42P01") {
		p.routes.catalog.forget(schedulesQueue)
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
		return fmt.Errorf("a tick cannot be published through a %T, only through a pool, a connection or a pgx.Tx: %w", p.db, errors.ErrUnsupported)
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
		return &sendError{err}
	}
	return nil
}

// rolledBack returns err without the mark that something may have been stored.
func rolledBack(err error) error {
	if sent := (*sendError)(nil); errors.As(err, &sent) {
		return sent.error
	}
	return err
}
