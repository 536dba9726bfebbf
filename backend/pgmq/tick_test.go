package pgmq_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// tryTick publishes a message for a tick, and returns what came of it.
func tryTick(t *testing.T, p message.Publisher, schedule string, at time.Time) backend.TickResult {
	t.Helper()
	tick := &backend.ScheduleTick{Schedule: schedule, At: at}
	msg := message.NewMessageWithContext(backend.WithScheduleTick(context.WithoutCancel(t.Context()), tick), watermill.NewUUID(), []byte("{}"))
	if err := p.Publish("reports", msg); err != nil {
		t.Error(err)
	}
	result, ok := tick.Result()
	if !ok {
		t.Error("nothing was reported")
	}
	return result
}

// countStored counts what is in the queue of the reports.
func countStored(t *testing.T, client *pgmq.Client) int {
	t.Helper()
	metrics, err := client.Metrics(t.Context(), "reports")
	if errors.Is(err, pgmq.ErrQueueNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return metrics.Visible
}

func TestScheduleTick_IsPublishedOnceWhenDue(t *testing.T) {
	t.Parallel()
	client := openAt(t, pgtest.Database(t), pgmq.Config{})
	begun := tryTick(t, client, "nightly", time.Now().Add(-time.Hour))
	if begun.Outcome != backend.TickTaken {
		t.Errorf("a tick from before the schedule was known: %v", begun.Outcome)
	}
	at := begun.Now.Add(time.Microsecond)
	for i, step := range []struct {
		schedule string
		at       time.Time
		want     backend.TickOutcome
	}{
		{"nightly", begun.Now.Add(time.Hour), backend.TickEarly},
		{"nightly", at.Add(time.Microsecond), backend.TickPublished},
		{"nightly", at.Add(time.Microsecond), backend.TickTaken},
		{"nightly", at, backend.TickTaken},
		{"hourly", at, backend.TickTaken}, // another schedule, which begins now
	} {
		if got := tryTick(t, client, step.schedule, step.at); got.Outcome != step.want || got.Last.After(got.Now) {
			t.Errorf("attempt %d: %v, not %v", i, got.Outcome, step.want)
		}
	}
	if n := countStored(t, client); n != 1 {
		t.Errorf("%d messages are stored, not 1", n)
	}
}

func TestScheduleTick_IsPublishedByOneOfManyProcesses(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	var queues []*pgmq.Client
	for range 6 {
		queues = append(queues, openAt(t, database, pgmq.Config{}))
	}
	at := tryTick(t, queues[0], "busy", time.Now()).Now
	const ticks = 30
	var published atomic.Int64
	for range ticks {
		at = at.Add(time.Microsecond)
		var all sync.WaitGroup
		for _, client := range queues {
			all.Go(func() {
				if tryTick(t, client, "busy", at).Outcome == backend.TickPublished {
					published.Add(1)
				}
			})
		}
		all.Wait()
	}
	if published.Load() != ticks || countStored(t, queues[0]) != ticks {
		t.Errorf("of %d ticks %d were reported and %d stored", ticks, published.Load(), countStored(t, queues[0]))
	}
}

func TestScheduleTick_IsPublishedAfterFirstPublisherDies(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, other := openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{})
	at := tryTick(t, client, "nightly", time.Now()).Now.Add(time.Microsecond)

	tx, err := pgtest.Pool(t, database).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := tryTick(t, client.WithTx(tx), "nightly", at); got.Outcome != backend.TickPublished {
		t.Fatalf("in the transaction: %v", got.Outcome)
	}
	waiting := make(chan backend.TickResult)
	go func() { waiting <- tryTick(t, other, "nightly", at) }()
	pool := pgtest.Pool(t, database)
	pgtest.Eventually(t, 10*time.Second, "the other one waits for the transaction", func() bool {
		var n int
		err := pool.QueryRow(t.Context(),
			"select count(*) from pg_locks where not granted and locktype = 'transactionid'").Scan(&n)
		return err == nil && n > 0
	})
	if err := tx.Rollback(t.Context()); err != nil { // as PostgreSQL does for a process that has died
		t.Fatal(err)
	}
	if got := <-waiting; got.Outcome != backend.TickPublished {
		t.Errorf("the other one: %v", got.Outcome)
	}
	if n := countStored(t, client); n != 1 {
		t.Errorf("%d messages are stored, not 1", n)
	}
}

func TestSchedule_WhenForgottenPublishesNothingTwice(t *testing.T) {
	t.Parallel()
	client := openAt(t, pgtest.Database(t), pgmq.Config{})
	at := tryTick(t, client, "nightly", time.Now()).Now.Add(time.Microsecond)
	if got := tryTick(t, client, "nightly", at); got.Outcome != backend.TickPublished {
		t.Fatalf("%v", got.Outcome)
	}
	if _, err := client.DropQueue(t.Context(), "ezq_schedules"); err != nil {
		t.Fatal(err)
	}
	if got := tryTick(t, client, "nightly", at); got.Outcome != backend.TickTaken {
		t.Errorf("%v, not taken", got.Outcome)
	}
}

func TestScheduleTick_RequiresLockingTransaction(t *testing.T) {
	t.Parallel()
	client := openAt(t, pgtest.Database(t), pgmq.Config{})
	tick := &backend.ScheduleTick{Schedule: "nightly", At: time.Now()}
	msg := message.NewMessageWithContext(backend.WithScheduleTick(t.Context(), tick), "1", []byte("{}"))
	if err := client.WithSQLTx(new(sql.Tx)).Publish("reports", msg); !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, pgmq.ErrRejected) {
		t.Errorf("the error is %v", err)
	}
}

func TestSchedule_NamesMissingGrant(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	tryTick(t, openAt(t, database, pgmq.Config{}), "nightly", time.Now())
	client := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on all tables in schema pgmq to {role}"), pgmq.Config{})
	tick := &backend.ScheduleTick{Schedule: "nightly", At: time.Now()}
	msg := message.NewMessageWithContext(backend.WithScheduleTick(t.Context(), tick), "1", []byte("{}"))
	err := client.Publish("reports", msg)
	if e := (*pgmq.Error)(nil); !errors.As(err, &e) || !errors.Is(err, pgmq.ErrPermission) || !errors.Is(err, pgmq.ErrRejected) {
		t.Errorf("the error is %v", err)
	} else if want := "let its owner run GRANT SELECT (msg_id, message), INSERT (msg_id, vt, message), UPDATE (message) ON "; len(e.Remedy) < len(want) || e.Remedy[:len(want)] != want {
		t.Errorf("the remedy is %q", e.Remedy)
	}
}

func TestSchedule_QueueIsNoTopic(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	err := client.Publish("ezq_schedules", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
	require.ErrorContains(t, err, "schedules")
	_, err = client.Subscribe(t.Context(), "ezq_schedules")
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
	require.NoError(t, client.SubscribeInitialize("ezq_schedules"), "it may be created in advance")
}
