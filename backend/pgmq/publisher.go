package pgmq

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
)

// Publisher is a Watermill Publisher on PGMQ. Create it with [NewPublisher], or
// take a [Queue], which is one. Its methods may be called concurrently, as far
// as its database handle allows that: a pool does, a transaction does not.
type Publisher struct {
	db      DB
	create  creator       // nil with NoCreate
	pool    *pgxpool.Pool // nil if db is something else
	inTx    bool
	config  PublisherConfig
	catalog *catalog
	hints   *hints
	commits *groupCommit
	closed  *atomic.Bool

	notifier *notifier // nil without a pool, or with NoNotify
	throttle *throttle // of notifications in transactions
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher returns a publisher that sends through db, usually a pool. Given
// a transaction, its messages become visible when that commits. db stays the
// caller's. The logger may be nil; the publisher returns its errors and logs
// nothing.
func NewPublisher(db DB, config PublisherConfig, _ watermill.LoggerAdapter) (*Publisher, error) {
	if db == nil {
		return nil, &Error{Op: "configure", Kind: ErrInvalidConfig, Cause: errors.New("db is nil"), Remedy: "pass a *pgxpool.Pool"}
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	pool, _ := db.(*pgxpool.Pool)
	p := newPublisher(db, pool, config, newHints())
	_, p.inTx = db.(pgx.Tx)
	return p, nil
}

// newPublisher returns a publisher that sends through db. pool is the same, or
// nil if db is something else.
func newPublisher(db DB, pool *pgxpool.Pool, config PublisherConfig, hints *hints) *Publisher {
	p := &Publisher{
		db: db, pool: pool, config: config, catalog: newCatalog(), hints: hints,
		commits: newGroupCommit(), closed: new(atomic.Bool), throttle: newThrottle(),
	}
	if !config.NoCreate {
		p.create = createThrough(db)
	}
	if pool != nil && !config.NoNotify {
		p.notifier = newNotifier(pool)
	}
	return p
}

func (p *Publisher) in(tx DB) *Publisher {
	inside := *p
	inside.db, inside.inTx = tx, true
	if p.create != nil {
		inside.create = createBeside(p.pool)
	}
	return &inside
}

// Features says that delays are kept: see [backend.Features].
func (p *Publisher) Features() backend.Features { return features() }

// publishTimeout bounds a publish whose context has no deadline of its own.
const publishTimeout = 30 * time.Second

// Publish stores the messages in the queue of topic with one statement: all of
// them or none. It honours the delays of [backend.SetDelay], [backend.SetTime]
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
// bound is 30 seconds.
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
	}
	return failure
}

func (p *Publisher) publish(topic string, msgs []*message.Message) error {
	queue, err := queueName(topic)
	if err != nil {
		return err
	}
	encoded, err := encode(msgs, p.config.MaxPayload)
	if err != nil {
		return err
	}
	ctx := msgs[0].Context()
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	if p.inTx {
		return p.send(ctx, queue, encoded)
	}
	err = p.commits.write(ctx, queue, encoded, func(ctx context.Context, batch rows) error {
		err := p.send(ctx, queue, batch)
		if isCode(err, "42P01") { // dropped since we last saw it, so nothing was stored
			p.catalog.forget(queue)
			err = p.send(ctx, queue, batch)
		}
		return err
	})
	if err == nil {
		p.hints.give(queue)
		if p.notifier != nil {
			p.notifier.notify(queue)
		}
	}
	return err
}

func (p *Publisher) send(ctx context.Context, queue string, rows rows) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	sql, err := p.catalog.find(ctx, p.db, queue, p.create)
	if err != nil {
		return err
	}
	args := []any{pgx.QueryExecModeCacheDescribe, rows.messages, rows.headers, rows.delays, rows.times}
	statement := sql.insert
	if p.inTx && !p.config.NoNotify && p.throttle.allow(queue) {
		statement = sql.insertAndNotify
		args = append(args, channel, queue)
	}
	if _, err = p.db.Exec(ctx, statement, args...); err != nil {
		return &sendError{err}
	}
	return nil
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
