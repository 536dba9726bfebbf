package pgmq

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
)

// queue is a queue that is consumed, and what the statements about it need.
type queue struct {
	topic           string // for errors
	name            string
	group           string
	current         atomic.Pointer[statements]
	pool            *pgxpool.Pool
	wakeups         *wakeups
	maxMessageBytes int   // of the size of a message
	maxBytes        int64 // bytes that one claim keeps
	encoding        encoding
	logger          *slog.Logger

	quarantined *atomic.Int64 // nil if it is not asked for
}

// sql is how to speak to the queue.
func (q *queue) sql() *statements { return q.current.Load() }

// classify is [classify] for this queue.
func (q *queue) classify(op string, err error) error {
	return subject{op: op, topic: q.topic, queue: q.name}.classify(err)
}

// isDropped reports whether err says that the queue is not there any more.
func (q *queue) isDropped(ctx context.Context, err error) bool {
	if !isCode(err, "42P01", "3F000") { // undefined_table, invalid_schema_name
		return false
	}
	var there bool
	err = q.pool.QueryRow(ctx, "select to_regclass($1) is not null", tableName(q.name)).Scan(&there)
	return err == nil && !there
}
