package pgmq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

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
