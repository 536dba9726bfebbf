// Package transact runs statements in transactions, which take effect as a whole or not at all. They are
// READ COMMITTED whatever the default is, and their plans do not depend on the statistics of a queue.
package transact

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// NotificationsHaveRoomSQL is whether PostgreSQL's queue of notifications is less than half full, from where on
// PostgreSQL itself warns. All databases of a server share it, and any session fills it that listens and stays in a
// transaction. When it is full, a transaction that has notified fails to commit.
const NotificationsHaveRoomSQL = "pg_catalog.pg_notification_queue_usage() < 0.5::float8"

// Batch is statements that go to the server in one round trip, and take
// effect together.
type Batch struct{ pgx.Batch }

// New returns a transaction without statements.
func New() *Batch {
	t := &Batch{}
	t.Queue(ReadCommittedSQL)
	t.Queue(PlanSQL)
	return t
}

// NewWithTimeout is New, of which no statement takes longer than timeout.
func NewWithTimeout(timeout time.Duration) *Batch {
	t := &Batch{}
	t.Queue(ReadCommittedSQL)
	t.Queue(PlanSQL + ", " + StatementTimeoutSQL(timeout))
	return t
}

// StatementTimeoutSQL has each of the next statements of a transaction fail that takes longer. The
// commit does not: PostgreSQL has stopped the clock by then.
func StatementTimeoutSQL(timeout time.Duration) string {
	return fmt.Sprintf("pg_catalog.set_config('statement_timeout', '%d', true)", max(timeout.Milliseconds(), 1))
}

// CheckSQL has constraints checked that are deferred to the commit. What one refuses would fail
// there, where it can be the fault of anything.
const CheckSQL = "set constraints all immediate"

// Run sends the transaction, and waits for its outcome.
func (t *Batch) Run(ctx context.Context, db Sender) error {
	t.Queue("commit")
	return db.SendBatch(ctx, &t.Batch).Close()
}

// Sender is a pool or a connection.
type Sender interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// Run runs statements that take effect together, and are planned as those of a
// [Batch] are. A setting for its length, as in "lock_timeout = '1s'", may be empty. If they succeed, and their commit does
// not, the error is a [*CommitError].
func Run(ctx context.Context, pool *pgxpool.Pool, setting string, run func(tx pgx.Tx) error) error {
	begin := ReadCommittedSQL + "; " + PlanSQL
	if setting != "" {
		begin += "; set local " + setting
	}
	sent := false
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		err := cmp.Or(run(tx), ctx.Err())
		sent = err == nil
		return err
	})
	if err != nil && sent {
		return &CommitError{err}
	}
	return err
}

// CommitError is an error of the commit itself: what was to be committed may be.
type CommitError struct{ Cause error }

// Error is that of the cause.
func (e *CommitError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *CommitError) Unwrap() error { return e.Cause }

// Wait waits for d between two transactions, and reports whether ctx lives.
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// ReadCommittedSQL begins a transaction. A role or a database may have another default, under which consumers
// that compete for messages would fail with 40001.
const ReadCommittedSQL = "begin isolation level read committed"

// PlanSQL leaves PostgreSQL one plan for each statement that looks at a queue, and for the
// length of a transaction. The plan reads through an index, in the order of that, and no more
// rows than the statement asks for; joins of rows that were read use a hash.
//
// Which plan is the cheapest, PostgreSQL would otherwise tell from statistics, and those of
// a queue are wrong most of the time: its rows come, change and go within milliseconds, and
// ANALYZE sees one moment. If all messages were leased or delayed then, one row is expected
// to be due; to read all that are, and sort them, costs no more than to read the first. If the
// queue was empty then, to read all of it costs no more than to look up one id.
//
// An incremental sort stays: it sorts only the messages of one time by their ids. Without jit
// no plan is compiled because it is believed to be expensive.
const PlanSQL = "select pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_bitmapscan', 'off', true), " +
	"pg_catalog.set_config('enable_sort', 'off', true), pg_catalog.set_config('enable_nestloop', 'off', true), pg_catalog.set_config('jit', 'off', true)"

// Value returns the only column of the only row of a query.
func Value[T any](ctx context.Context, db RowQueryer, sql string, args ...any) (value T, err error) {
	args = append([]any{pgx.QueryExecModeCacheDescribe}, args...)
	err = db.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err
}

// Collect reads rows in a transaction, which plans as all that look at queues do.
func Collect[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) (all []T, err error) {
	err = Run(ctx, pool, "", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, scan)
		return err
	})
	return all, err
}

// RowQueryer is a pool, a connection or a transaction.
type RowQueryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Queryer is what looking at a queue, and publishing, needs from PostgreSQL.
type Queryer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}
