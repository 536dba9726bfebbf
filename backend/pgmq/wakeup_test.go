package pgmq_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// openWithoutPolling returns a queue whose subscriptions find nothing unless they are told.
func openWithoutPolling(t *testing.T, database string) *pgmq.Client {
	t.Helper()
	client := openAt(t, database, pgmq.Config{})
	client.PollOnce()
	return client
}

// requireListening waits until a session listens for messages of the topic t.
func requireListening(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	pgtest.Eventually(t, patience, "a session listens", func() bool {
		return get[int](t, pool, `select count(*) from pg_stat_activity
			where datname = current_database() and state = 'idle'
			and (query ilike 'listen "pgmq.q_t%' or query = '-- ping')`) > 0
	})
}

func TestListener_WakesSubscriberAtOnce(t *testing.T) {
	t.Parallel()
	for name, publish := range map[string]func(t *testing.T, database string){
		"another process publishes": func(t *testing.T, database string) {
			publish(t, openAt(t, database, pgmq.Config{}), "a")
		},
		"a transaction commits": func(t *testing.T, database string) {
			client := openAt(t, database, pgmq.Config{})
			require.NoError(t, pgx.BeginFunc(t.Context(), pgtest.Pool(t, database), func(tx pgx.Tx) error {
				return client.WithTx(tx).Publish("t", message.NewMessage("a", nil))
			}))
		},
		"PGMQ's own trigger notifies": func(t *testing.T, database string) {
			execute(t, pgtest.Pool(t, database), "select pgmq.enable_notify_insert('t', 0)")
			execute(t, pgtest.Pool(t, database), "select pgmq.send('t', '1')")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			messages := subscribe(t, openWithoutPolling(t, database))
			requireListening(t, pgtest.Pool(t, database))
			publish(t, database)
			receive(t, messages).Ack()
		})
	}
}

func TestListener_RecoversFromCutConnection(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	messages := subscribe(t, openWithoutPolling(t, database))
	requireListening(t, pool)
	execute(t, pool, `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and (query ilike 'listen%' or query = '-- ping')`)
	execute(t, pool, "select pgmq.send('t', '1')") // no consumer is notified of this one
	receive(t, messages).Ack()                     // but the subscription looks when it listens again
	requireListening(t, pool)
	publish(t, openAt(t, database, pgmq.Config{}), "a")
	receive(t, messages).Ack()
}

func TestNoListen_PollsForMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoListen: true, PollInterval: 20 * time.Millisecond}})
	messages := subscribe(t, client)
	execute(t, pool, "select pgmq.send('t', '1')")
	receive(t, messages).Ack()
	require.Zero(t, get[int](t, pool, `select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'`))
}

func TestDelay_WakesIdleSubscriber(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, client := pgtest.Pool(t, database), openWithoutPolling(t, database)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, "select pgmq.send('t', '1', 1)")
	start := time.Now()
	receive(t, subscribe(t, client)).Ack()
	require.Greater(t, time.Since(start), 500*time.Millisecond)
}

// What an idle subscription costs is part of what it promises. Statements are
// counted by a tracer, where the client sends them.
func TestSubscription_WhenIdleAsksUnderTwicePerSecond(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.Database(t))
	require.NoError(t, err)
	var statements counter
	config.ConnConfig.Tracer = &statements
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := pgmq.New(pool, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{PollInterval: 100 * time.Millisecond}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	subscribe(t, client)
	requireListening(t, pool)
	before, start := statements.Load(), time.Now()
	pgtest.Eventually(t, patience, "20 looks", func() bool { return statements.Load()-before >= 20 })
	looks := float64(time.Since(start)) / float64(100*time.Millisecond)
	require.Greater(t, looks, 10.0, "2 statements a look are 2 a second at the default PollInterval")
}

type counter struct{ atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
