// Package pgmqtest is a [pgmq.Client] for tests, whose time a test can move on.
//
// With it [ezqtest.RunOn] runs on PostgreSQL what [ezqtest.Run] runs in memory, and days
// pass at once:
//
//	func TestAReminderIsSentOnPostgreSQL(t *testing.T) {
//		client := pgmqtest.Open(t, emptyDatabase(t), nil)
//		ezqtest.RunOn(t, client, newRouter, func(f *ezqtest.Flow) {
//			f.Publish(OrderPaid{Order: 7})
//			f.Advance(72 * time.Hour)
//			ezqtest.Handled[ReminderDue](f).Times(1)
//		})
//	}
//
// TestForward_PassesDelayAndRetryOfDays in this directory does without ezqtest, with a
// router that it runs itself.
//
// [ezqtest.Run]: https://pkg.go.dev/github.com/ezq-go/ezq/ezq/ezqtest#Run
// [ezqtest.RunOn]: https://pkg.go.dev/github.com/ezq-go/ezq/ezq/ezqtest#RunOn
package pgmqtest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// Client is a [pgmq.Client] whose messages can be made older.
type Client struct {
	*pgmq.Client
	pool *pgxpool.Pool
}

// Open opens a client of the database at url, which must be that of this test alone,
// and closes it when the test ends. If it cannot be opened, the test fails.
func Open(tb testing.TB, url string, config *pgmq.Config) *Client {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal("pgmqtest: the database URL makes no sense") // err may quote the password
	}
	tb.Cleanup(pool.Close)
	client, err := pgmq.New(pool, config)
	if err != nil {
		tb.Fatal("pgmqtest:", err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	return &Client{client, pool}
}

// Forward lets d pass for all messages of the database that are not visible: delays and
// waits for a retry are shorter by that. It first waits until nothing is being handled
// by subscriptions of c, and all outcomes are stored; leases of other consumers become
// shorter too. Subscriptions notice within their PollInterval.
func (c *Client) Forward(ctx context.Context, d time.Duration) error {
	if err := c.awaitIdle(ctx); err != nil {
		return err
	}
	queues, err := c.Queues(ctx)
	if err != nil {
		return err
	}
	for _, queue := range queues {
		table := pgx.Identifier{"pgmq", "q_" + queue.Name}.Sanitize()
		if _, err := c.pool.Exec(ctx, "update "+table+" set vt = vt - $1::interval where vt > clock_timestamp()", d); err != nil {
			return fmt.Errorf("pgmqtest: forward %v in %s: %w", d, table, err)
		}
	}
	return nil
}

// schedulesQueue is the queue in which package pgmq keeps what is known about schedules.
const schedulesQueue = "ezq_schedules"

// Messages calls each with every message in the queues of the database, those included
// that were published in a transaction: the topic, how often it has been delivered, and how
// long until it is visible. ezqtest.RunOn learns from it what it has not published itself.
// Left out are the queues of groups, and those of topics that are not the name of their
// queue and that c has no subscription to.
func (c *Client) Messages(ctx context.Context, each func(topic string, msg *message.Message, deliveries int, wait time.Duration)) error {
	topics := map[string]string{} // by their queues
	for topic := range c.Stats() {
		if name, err := pgmq.QueueName(topic); err == nil {
			topics[name] = topic
		}
	}
	queues, err := c.Queues(ctx)
	if err != nil {
		return err
	}
	for _, queue := range queues {
		topic, known := topics[queue.Name]
		if name, err := pgmq.QueueName(queue.Name); !known && (err != nil || name != queue.Name) || queue.Name == schedulesQueue {
			continue
		}
		if !known {
			topic = queue.Name
		}
		if err := c.messages(ctx, topic, queue.Name, each); err != nil {
			return err
		}
	}
	return nil
}

// messages is Messages for one topic.
func (c *Client) messages(ctx context.Context, topic, queue string, each func(string, *message.Message, int, time.Duration)) error {
	found, err := c.DeadLetters(ctx, topic, backend.DeadLetterSelection{Limit: math.MaxInt32}) // any message may be read as one
	if err != nil {
		return err
	}
	table := pgx.Identifier{"pgmq", "q_" + queue}.Sanitize()
	rows, err := c.pool.Query(ctx, "select msg_id, read_ct, (extract(epoch from vt - clock_timestamp())::double precision * 1e6::double precision)::bigint from "+table)
	if err != nil {
		return fmt.Errorf("pgmqtest: look into %s: %w", table, err)
	}
	type delivered struct {
		times int
		wait  time.Duration
	}
	now := map[int64]delivered{}
	var id, micros int64
	var times int
	_, err = pgx.ForEachRow(rows, []any{&id, &times, &micros}, func() error {
		now[id] = delivered{times, time.Duration(micros) * time.Microsecond}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pgmqtest: look into %s: %w", table, err)
	}
	for _, deadLetter := range found {
		if seen, there := now[deadLetter.Row]; there {
			msg := message.NewMessage(deadLetter.ID, deadLetter.Payload)
			msg.Metadata = deadLetter.Metadata
			each(topic, msg, seen.times, seen.wait)
		}
	}
	return nil
}

func (c *Client) awaitIdle(ctx context.Context) error {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for c.busy() {
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("pgmqtest: forward: %w", context.Cause(ctx))
		}
	}
	return nil
}

func (c *Client) busy() bool {
	for _, topic := range c.Stats() {
		if topic.Prefetched+topic.InFlight+topic.Unstored > 0 {
			return true
		}
	}
	return false
}
