// Package pgmqtest is a PGMQ queue for tests, whose time a test can move on.
//
// With it [ezqtest.RunOn] runs on PostgreSQL what [ezqtest.Run] runs in memory, and days
// pass at once:
//
//	func TestAReminderIsSentOnPostgreSQL(t *testing.T) {
//		queue := pgmqtest.Open(t, emptyDatabase(t), pgmq.Config{})
//		ezqtest.RunOn(t, queue, newRouter, func(f *ezqtest.Flow) {
//			f.Publish(OrderPaid{Order: 7})
//			f.Advance(72 * time.Hour)
//			ezqtest.Handled[ReminderDue](f).Times(1)
//		})
//	}
//
// TestADelayAndARetryOfDaysPassAtOnce in this directory does without ezqtest, with a
// router that it runs itself.
//
// [ezqtest.Run]: https://pkg.go.dev/github.com/ezq-go/ezq/ezq/ezqtest#Run
// [ezqtest.RunOn]: https://pkg.go.dev/github.com/ezq-go/ezq/ezq/ezqtest#RunOn
package pgmqtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// Queue is a [pgmq.Queue] whose messages can be made older.
type Queue struct {
	*pgmq.Queue
	pool *pgxpool.Pool
}

// Open opens a queue in the database at url, which must be that of this test alone, and
// closes it when the test ends. If it cannot be opened, the test fails.
func Open(tb testing.TB, url string, config pgmq.Config) *Queue {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal("pgmqtest: the database URL makes no sense") // err may quote the password
	}
	tb.Cleanup(pool.Close)
	queue, err := pgmq.New(pool, config)
	if err != nil {
		tb.Fatal("pgmqtest:", err)
	}
	tb.Cleanup(func() { _ = queue.Close() })
	return &Queue{queue, pool}
}

// Forward lets d pass for all messages of the database that are not visible: delays and
// waits for a retry are shorter by that. It first waits until nothing is being handled
// by subscriptions of q, and all outcomes are stored; leases of other consumers become
// shorter too. Subscriptions notice within their PollInterval.
func (q *Queue) Forward(ctx context.Context, d time.Duration) error {
	if err := q.awaitIdle(ctx); err != nil {
		return err
	}
	queues, err := q.Queues(ctx)
	if err != nil {
		return err
	}
	for _, queue := range queues {
		table := pgx.Identifier{"pgmq", "q_" + queue.Name}.Sanitize()
		if _, err := q.pool.Exec(ctx, "update "+table+" set vt = vt - $1::interval where vt > clock_timestamp()", d); err != nil {
			return fmt.Errorf("pgmqtest: forward %v in %s: %w", d, table, err)
		}
	}
	return nil
}

func (q *Queue) awaitIdle(ctx context.Context) error {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for q.busy() {
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("pgmqtest: forward: %w", context.Cause(ctx))
		}
	}
	return nil
}

func (q *Queue) busy() bool {
	for _, topic := range q.Stats() {
		if topic.Waiting+topic.InFlight+topic.Unstored > 0 {
			return true
		}
	}
	return false
}
