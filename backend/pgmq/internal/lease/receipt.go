package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
)

// Receipt is what a transaction needs to ack a message.
type Receipt struct {
	Topic     string
	Queue     string
	sql       *statement.Set
	committed atomic.Bool
}

var _ subscription.Receipt = (*Receipt)(nil)

// Settled implements [subscription.Receipt]: it reports whether the message was removed in a
// transaction, and so does not come back, whatever its consumer says. ezqtest asks, too.
func (r *Receipt) Settled() bool { return r.committed.Load() }

// Commit notes that the transaction was committed in which the message was removed.
func (r *Receipt) Commit() { r.committed.Store(true) }

// Ack removes the message in tx, if its lease is still valid. It waits for a
// session that is about to extend or take the lease.
func (r *Receipt) Ack(ctx context.Context, tx pgx.Tx, token subscription.Token) error {
	var columns tokenColumns
	columns.add(token)
	tag, err := tx.Exec(ctx, r.sql.AckOne, pgx.QueryExecModeCacheDescribe, columns.ids, columns.numbers, columns.times)
	if err != nil {
		return fault.Subject{Op: "ack", Topic: r.Topic, Queue: r.Queue}.Classify(err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	var id int64
	var same bool
	err = tx.QueryRow(ctx, r.sql.CheckTokens, pgx.QueryExecModeCacheDescribe, columns.ids, columns.numbers, columns.times).Scan(&id, &same)
	switch {
	case err == nil && same: // the row is locked by tx now
		return &fault.Error{Op: "ack", Topic: r.Topic, Cause: fmt.Errorf("message %d: %w", token.ID, ErrKept), Remedy: fault.KeptRemedy(queuename.Table(r.Queue))}
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return fault.Subject{Op: "ack", Topic: r.Topic, Queue: r.Queue}.Classify(err)
	default:
		return fmt.Errorf("pgmq: message %d: lease lost during handling; transaction rolled back: %w", token.ID, backend.ErrLeaseLost)
	}
}

// ErrKept is why an ack changes nothing whose lease is valid.
var ErrKept = errors.New("it stays in its queue: PostgreSQL was told to delete it, and returned no error")
