package pgmq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// receipt is what a transaction needs to ack a message.
type receipt struct {
	topic     string
	queue     string
	sql       *statements
	committed atomic.Bool
}

var _ subscription.Receipt = (*receipt)(nil)

// Settled implements [subscription.Receipt].
func (r *receipt) Settled() bool { return r.committed.Load() }

// TxMiddleware returns middleware that runs a handler in a transaction on the client's pool.
// The handler's statements through [TxFromContext], its publishes through
// client.WithTx(pgmq.TxFromContext(ctx)), and the removal of the message from its queue commit
// together, or none of them does:
//
//	ezq.Handle(router, pay, ezq.Use(client.TxMiddleware()))
//
// The transaction is rolled back if the handler fails or is interrupted, and if
// the message's lease was lost: however often a message is delivered, its effect
// happens once. The error then matches [backend.ErrLeaseLost].
//
// If PostgreSQL refuses the removal for what is wrong with the queue's table or archive,
// or for a privilege that the role lacks; if a trigger, a rule or a policy quietly keeps the
// row; or if another session has locked it for more than 3 seconds: then the transaction is rolled back too, and the
// message has not failed: nothing is counted, and it comes again, a second later at first
// and up to a minute later the longer that lasts. The log says so, and what to do;
// Router.Ready does not, since the topic is received from.
//
// If the server's answer to the commit is lost, the message counts as failed. If
// it was committed after all, the message is gone and does not come back.
//
// The transaction is open for as long as the handler runs, which keeps a
// connection, and VACUUM from removing rows: it is for handlers that work in this
// database and are done soon. The messages must come from a [Client], or a
// Subscriber, on the same database.
//
// A handler that publishes with client.Publish, or asks a [KeyStore], needs a second
// connection of the pool. If none is free within 2 seconds, because other handlers have
// them for their transactions, that fails with an error of the kind [ErrInvalidConfig].
//
// It is for a handler that is alone with its message. For one of several handlers of
// an event, and for a batch handler, every event fails with an error that says so.
func (c *Client) TxMiddleware() message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			return c.handleInTx(next, msg)
		}
	}
}

type txKey struct{}

// TxFromContext returns the transaction that [Client.TxMiddleware] runs the handler in, or nil
// outside of such a handler. The handler must neither commit nor roll it back.
func TxFromContext(ctx context.Context) pgx.Tx {
	opened, _ := ctx.Value(txKey{}).(handlerTx)
	return opened.tx
}

// handlerTx is the transaction of a handler, and the pool that it has a connection of.
type handlerTx struct {
	tx   pgx.Tx
	pool *pgxpool.Pool
}

// secondConnTimeout bounds the wait for a second connection of the pool: handlers that
// each have one, and wait for another, wait for each other.
const secondConnTimeout = 2 * time.Second

// inHandlerTx reports whether ctx is that of a handler with a transaction on pool.
func inHandlerTx(ctx context.Context, pool *pgxpool.Pool) bool {
	opened, ok := ctx.Value(txKey{}).(handlerTx)
	return ok && opened.pool == pool
}

// acquire returns a connection of pool. In a handler that has one already it does not
// wait for long.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	if !inHandlerTx(ctx, pool) {
		return pool.Acquire(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, secondConnTimeout)
	defer cancel()
	conn, err := pool.Acquire(bounded)
	if err == nil || ctx.Err() != nil || bounded.Err() == nil {
		return conn, err
	}
	return nil, &Error{
		Kind: ErrInvalidConfig, Cause: fmt.Errorf("the transactions of TxMiddleware have all %d connections of the pool, and this handler wants a second one", pool.Config().MaxConns),
		Remedy: "use the transaction that the handler has, with pgmq.TxFromContext(ctx) and client.WithTx(pgmq.TxFromContext(ctx)); or make the pool larger than the number of handlers at work",
	}
}

var (
	errNotFromPGMQ  = errors.New("pgmq: TxMiddleware: the message was not received from PGMQ: use TxMiddleware with a subscription to this database; a test can use ezqtest.RunOn")
	errNotExclusive = errors.New("pgmq: TxMiddleware: it requires the only handler of a message, and no batch: " +
		"give this handler a topic of its own, and use Handle; or begin a transaction in the handler, and expect the message to come twice")
)

func (c *Client) handleInTx(next message.HandlerFunc, msg *message.Message) (out []*message.Message, err error) {
	outer := msg.Context()
	if !backend.Exclusive(outer) {
		return nil, errNotExclusive
	}
	delivery := backend.DeliveryFromContext(outer)
	if delivery == nil {
		return nil, errNotFromPGMQ
	}
	msgReceipt, ok := delivery.Receipt.(*receipt)
	leaser, canLease := delivery.Parker.(subscription.Leaser)
	if !ok || !canLease {
		return nil, errNotFromPGMQ
	}
	token, err := leaser.EnsureLease(outer) // the ack would wait for the end of a lock, and then find a lease
	if err != nil {
		return nil, fmt.Errorf("pgmq: the message is not handled: %w", err)
	}
	tx, err := c.pool.BeginTx(outer, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return nil, classify("begin transaction", "", err)
	}
	// Rolling back after the commit does nothing. The handler's context may have
	// ended, and the connection is to be used again.
	defer func() { _ = tx.Rollback(context.WithoutCancel(outer)) }()

	msg.SetContext(context.WithValue(outer, txKey{}, handlerTx{tx, c.pool}))
	out, err = next(msg)
	msg.SetContext(outer)
	if err != nil || backend.Nacked(msg) { // by ezq's router, when a handler was interrupted
		return out, err
	}
	if err := msgReceipt.ack(outer, tx, token); isOfNoMessage(err) {
		_ = tx.Rollback(context.WithoutCancel(outer))
		c.refusedAcks.release(outer, msg, msgReceipt, err)
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	c.refusedAcks.accepted(msgReceipt.queue)
	if err := tx.Commit(outer); err != nil {
		return nil, classify("commit", "", err)
	}
	msgReceipt.committed.Store(true)
	return out, nil
}

// ackWait is how long an ack in a handler's transaction waits for a lock. Another consumer that renews
// the lease, or takes it away, has the row for milliseconds.
const ackWait = 3 * time.Second

// isOfNoMessage reports whether an ack has failed with err for what is wrong with the table, or
// for what others do with its rows.
func isOfNoMessage(err error) bool {
	return isRefused(err) && isTableError(err) || isLockTimeout(err) || errors.Is(err, errKept)
}

// Committed reports whether the message was removed in a transaction, and so does not
// come back, whatever its consumer says. ezqtest asks.
func (r *receipt) Committed() bool { return r.committed.Load() }

// ack removes the message in tx, if its lease is still valid. It waits for a
// session that is about to renew or take the lease.
func (r *receipt) ack(ctx context.Context, tx pgx.Tx, token subscription.Token) error {
	var columns tokenColumns
	columns.add(token)
	tag, err := tx.Exec(ctx, r.sql.ackOne, pgx.QueryExecModeCacheDescribe, columns.ids, columns.numbers, columns.times)
	if err != nil {
		return subject{op: "ack", topic: r.topic, queue: r.queue}.classify(err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	var id int64
	var same bool
	err = tx.QueryRow(ctx, r.sql.exist, pgx.QueryExecModeCacheDescribe, columns.ids, columns.numbers, columns.times).Scan(&id, &same)
	switch {
	case err == nil && same: // the row is locked by tx now
		return &Error{Op: "ack", Topic: r.topic, Cause: fmt.Errorf("message %d: %w", token.ID, errKept), Remedy: keepsRemedy(tableName(r.queue))}
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return subject{op: "ack", topic: r.topic, queue: r.queue}.classify(err)
	default:
		return fmt.Errorf("pgmq: message %d: lease lost during handling; transaction rolled back: %w", token.ID, backend.ErrLeaseLost)
	}
}

// errKept is why an ack changes nothing whose lease is valid.
var errKept = errors.New("it stays in its queue: PostgreSQL was told to delete it, and returned no error")
