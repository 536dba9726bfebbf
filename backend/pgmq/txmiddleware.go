package pgmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/lease"
)

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

// isOfNoMessage reports whether an ack has failed with err for what is wrong with the table, or
// for what others do with its rows.
func isOfNoMessage(err error) bool {
	return fault.IsRefused(err) && fault.IsTableError(err) || fault.IsLockTimeout(err) || errors.Is(err, lease.ErrKept)
}

// txHandler runs a handler in a transaction on the pool.
type txHandler struct {
	pool        *pgxpool.Pool
	refusedAcks *refusedAcks
	next        message.HandlerFunc
}

func (h txHandler) handle(msg *message.Message) (out []*message.Message, err error) {
	outer := msg.Context()
	if !backend.ExclusiveFromContext(outer) {
		return nil, errNotExclusive
	}
	delivery := backend.DeliveryFromContext(outer)
	if delivery == nil {
		return nil, errNotFromPGMQ
	}
	receipt, ok := delivery.Receipt.(*lease.Receipt)
	leaser, canLease := delivery.Parker.(subscription.Leaser)
	if !ok || !canLease {
		return nil, errNotFromPGMQ
	}
	token, err := leaser.EnsureLease(outer) // the ack would wait for the end of a lock, and then find a lease
	if err != nil {
		return nil, fmt.Errorf("pgmq: the message is not handled: %w", err)
	}
	tx, err := h.pool.BeginTx(outer, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return nil, fault.Classify("begin transaction", "", err)
	}
	// Rolling back after the commit does nothing. The handler's context may have
	// ended, and the connection is to be used again.
	defer func() { _ = tx.Rollback(context.WithoutCancel(outer)) }()

	msg.SetContext(context.WithValue(outer, txKey{}, handlerTx{tx, h.pool}))
	out, err = h.next(msg)
	msg.SetContext(outer)
	if err != nil || backend.Nacked(msg) { // by ezq's router, when a handler was interrupted
		return out, err
	}
	if err := receipt.Ack(outer, tx, token); isOfNoMessage(err) {
		_ = tx.Rollback(context.WithoutCancel(outer))
		h.refusedAcks.release(outer, msg, receipt, err)
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	h.refusedAcks.accepted(receipt.Queue)
	if err := tx.Commit(outer); err != nil {
		return nil, fault.Classify("commit", "", err)
	}
	receipt.Commit()
	return out, nil
}
