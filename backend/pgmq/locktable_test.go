package pgmq_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// What locks a whole table waits for the end of a locked batch. That end needs no lock which the batch
// does not have, or it would wait for the table, and lose what it has locked.
func TestLockedBatch_FinishesDespiteTableLock(t *testing.T) {
	for name, test := range map[string]struct {
		sql    string
		config pgmq.SubscriberConfig
	}{
		"an index is built":      {sql: "create index on pgmq.q_t (enqueued_at)"},
		"PGMQ builds an index":   {sql: "select pgmq.create_fifo_index('t')"},
		"indexes are built anew": {sql: "reindex table pgmq.q_t"},
		"a trigger is created": {
			sql: "create trigger t after insert on pgmq.q_t for each statement execute function suppress_redundant_updates_trigger()",
		},
		"an index of the archive is built": {
			sql: "create index on pgmq.a_t (enqueued_at)", config: pgmq.SubscriberConfig{Archive: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, pool, messages := openLocking(t, time.Hour, test.config)
			msg := requireLocked(t, client, pool, messages)
			done := make(chan error, 1)
			go func() {
				_, err := pool.Exec(t.Context(), test.sql)
				done <- err
			}()
			pgtest.Eventually(t, patience, "it waits", func() bool { return isWaitingForLock(t, pool) })
			msg.Ack()
			require.NoError(t, <-done)
			requireCount(t, pool, "pgmq.q_t", 0)
			require.Zero(t, client.Stats()["t"].TooLate)
			require.Zero(t, get[int](t, pool, "select deadlocks from pg_stat_database where datname = current_database()"))
		})
	}
}

func isWaitingForLock(t *testing.T, pool *pgxpool.Pool) bool {
	t.Helper()
	return get[bool](t, pool, `select exists (select from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock')`)
}

// Those that were released have a higher count of deliveries, and are older than the end.
func TestEndEvent_ComesAfterMessagesReleasedBefore(t *testing.T) {
	for name, leaseOnly := range map[string]bool{"the messages are leased": true, "the messages are locked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const events = 500
			client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 10, LeaseOnly: true}})
			require.NoError(t, ezq.PublishBatch(t.Context(), client, make([]paid, events), ezq.Topic("t")))
			messages := subscribe(t, client)
			for range 10 {
				backend.Nack(receive(t, messages), backend.Redelivery{})
			}
			require.NoError(t, client.Close())
			requireCount(t, pool, "pgmq.q_t where read_ct > 0 and vt <= now()", 10)

			client = openAt(t, pool.Config().ConnString(), pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: leaseOnly}})
			require.NoError(t, ezq.Publish(t.Context(), client, ezq.EndEvent{}, ezq.Topic("t")))
			router := ezq.NewRouter(client, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
			var handled atomic.Int32
			ezq.Handle(router, func(context.Context, paid) error {
				handled.Add(1)
				return nil
			}, ezq.Topic("t"))
			require.NoError(t, router.Run(t.Context()))
			require.EqualValues(t, events, handled.Load())
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_t"))
		})
	}
}
