package lease

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// A locked batch is a transaction that has locked rows and stays open. It touches no other
// rows, so it waits for no session; and sessions that read the queue as PGMQ does, with SKIP
// LOCKED, skip them. If its connection is lost, or PostgreSQL hears nothing of it for
// as long as a lease, it is rolled back: its locks are gone, and a Finish that comes later
// fails with its transaction.

// lockedBatch implements [subscription.LockedBatch].
type lockedBatch struct {
	subject fault.Subject // for errors
	sql     *statement.Set
	conn    *pgxpool.Conn
	ids     []int64
	release func()

	unleasable *unleasable // what cannot be leased of the rest
}

// nextCount is what lease_locked.sql will count once the message is leased.
func nextCount(count int) int { return max(min(count, math.MaxInt32-1), 0) + 1 }

// Finish implements [subscription.LockedBatch].
func (b *lockedBatch) Finish(ctx context.Context, acked, rest []subscription.Token, lease time.Duration) ([]subscription.Token, error) {
	defer b.release() // which closes the connection if the transaction is still open
	tokens, err := b.finish(ctx, acked, rest, lease)
	if err == nil || len(acked) == 0 || !b.isRefused(err) {
		return tokens, b.noted(err)
	}
	cause := err
	all := slices.Concat(acked, rest)
	if _, err := b.conn.Exec(ctx, "rollback to savepoint held"); err != nil {
		return nil, b.subject.Classify(err)
	}
	if tokens, err = b.finish(ctx, nil, all, lease); err != nil {
		return nil, b.noted(err)
	}
	return tokens, &subscription.Refusal{Cause: cause}
}

// noted returns err, with which the messages could not be leased. If that is because of a
// row, which PostgreSQL refuses or takes too long for, the next lock transaction would lock it again,
// and end the same way.
func (b *lockedBatch) noted(err error) error {
	if fault.IsServerError(err) || isGivenUp(err) {
		b.unleasable.addRefused()
	}
	return err
}

// isRefused reports whether the transaction goes on after err, which is PostgreSQL's answer.
func (b *lockedBatch) isRefused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !b.conn.Conn().IsClosed() && b.conn.Conn().PgConn().TxStatus() == 'E'
}

// finish removes, leases and releases messages, and commits. A row that a trigger keeps as it is has no
// token.
func (b *lockedBatch) finish(ctx context.Context, acked, rest []subscription.Token, lease time.Duration) ([]subscription.Token, error) {
	var batch pgx.Batch
	if len(acked) > 0 {
		batch.Queue("savepoint held") // the locks stay if the rest is refused
	}
	switch {
	case len(acked) == 0:
	case b.sql.RemoveLocked != "":
		batch.Queue(b.sql.RemoveLocked, idsOf(acked))
	default:
		done := tokenColumnsOf(acked)
		batch.Queue(b.sql.Ack, done.ids, done.numbers, done.times)
	}
	leased := make(map[int64]subscription.Token, len(rest))
	if len(rest) > 0 {
		batch.Queue(b.sql.LeaseLocked, idsOf(rest), lease.Microseconds()).Query(func(rows pgx.Rows) error {
			var r Row
			_, err := pgx.ForEachRow(rows, []any{&r.ID, &r.Number, &r.ReadAt}, func() error {
				leased[r.ID] = r.token()
				return nil
			})
			return err
		})
	}
	if left := b.remaining(acked, rest); len(left) > 0 {
		batch.Queue(b.sql.Release, left)
	}
	if len(acked) > 0 {
		batch.Queue(transact.CheckSQL)
	}
	batch.Queue("commit")
	if err := b.conn.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, b.subject.Classify(err)
	}
	tokens := make([]subscription.Token, len(rest))
	var unchanged []int64
	for i, token := range rest {
		if tokens[i] = leased[token.ID]; tokens[i] == (subscription.Token{}) {
			unchanged = append(unchanged, token.ID)
		}
	}
	if len(unchanged) > 0 {
		b.unleasable.addUnchanged(unchanged)
	}
	return tokens, nil
}

// remaining returns the ids of the messages that are in none of these.
func (b *lockedBatch) remaining(acked, rest []subscription.Token) []int64 {
	if len(acked)+len(rest) == len(b.ids) {
		return nil
	}
	not := make(map[int64]bool, len(acked)+len(rest))
	for _, token := range slices.Concat(acked, rest) {
		not[token.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(b.ids), func(id int64) bool { return not[id] })
}

func idsOf(tokens []subscription.Token) []int64 {
	ids := make([]int64, len(tokens))
	for i, token := range tokens {
		ids[i] = token.ID
	}
	return ids
}
