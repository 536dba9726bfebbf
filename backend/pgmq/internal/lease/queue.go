package lease

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// OperationTimeout bounds every statement of a subscription.
const OperationTimeout = 5 * time.Second

// queue is a queue that is consumed, and what the statements about it need.
type queue struct {
	topic           string // for errors
	name            string
	group           string
	current         atomic.Pointer[statement.Set]
	pool            *pgxpool.Pool
	wakeups         *wakeup.Signals
	maxMessageBytes int   // how large a message may be
	maxBytes        int64 // how many one claim keeps
	encoding        codec.Encoding
	logger          *slog.Logger

	quarantined *atomic.Int64 // nil if it is not asked for
}

// sql returns the statements for the queue as it is now.
func (q *queue) sql() *statement.Set { return q.current.Load() }

// classify is [fault.Classify] for this queue.
func (q *queue) classify(op string, err error) error {
	return fault.Subject{Op: op, Topic: q.topic, Queue: q.name}.Classify(err)
}

// isDropped reports whether err says that the queue is not there any more.
func (q *queue) isDropped(ctx context.Context, err error) bool {
	if !fault.IsCode(err, "42P01", "3F000") { // undefined_table, invalid_schema_name
		return false
	}
	missing, err := transact.Value[bool](ctx, q.pool, "select pg_catalog.to_regclass($1) is null", queuename.Table(q.name))
	return err == nil && missing
}
