package pgmq_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestCreateQueue_CreatesRequestedKindOnce(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	for topic, kind := range map[string]pgmq.QueueKind{"t": pgmq.QueuePlain, "fast": pgmq.QueueUnlogged} {
		for range 2 {
			require.NoError(t, client.CreateQueue(t.Context(), topic, &pgmq.QueueOptions{Kind: kind}))
		}
	}
	err := client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueueUnlogged})
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, `the queue "t" exists, and is plain`)

	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"fast unlogged", "t plain"}, described(queues))
	publish(t, client, "a")
	requireReceives(t, subscribe(t, client), "a")
}

func described(queues []pgmq.QueueInfo) (lines []string) {
	for _, q := range queues {
		lines = append(lines, fmt.Sprint(q.Name, " ", q.Kind))
	}
	return lines
}

func TestCreateQueue_ToleratesConcurrentUnloggedCreation(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueueUnlogged}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// requirePartman makes the extension pg_partman available or skips the test.
func requirePartman(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if !get[bool](t, pool, "select exists (select from pg_available_extensions where name = 'pg_partman')") {
		t.Skip("the server of EZQ_TEST_DATABASE does not have the extension pg_partman (Debian: postgresql-15-partman)")
	}
	execute(t, pool, "create extension pg_partman")
}

func TestPartitionedQueue_DeliversAllMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	requirePartman(t, pool)
	options := pgmq.QueueOptions{Kind: pgmq.QueuePartitioned, PartitionInterval: 10}
	for range 2 {
		require.NoError(t, client.CreateQueue(t.Context(), "t", &options))
	}
	var want []string
	for i := range 100 { // more than the partitions that exist have room for
		want = append(want, fmt.Sprint(i))
	}
	publish(t, client, want...)
	requireReceives(t, subscribe(t, client), want...)
	requireCount(t, pool, "pgmq.q_t", 0)

	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"t partitioned"}, described(queues))
	existed, err := client.DropQueue(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, existed)
}

func TestPartitionedQueue_ClaimUsesIndex(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	requirePartman(t, pool)
	require.NoError(t, client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueuePartitioned}))
	execute(t, pool, "insert into pgmq.q_t (vt, message) select now() + interval '1 day', '{}' from generate_series(1, 30000)")
	execute(t, pool, "analyze pgmq.q_t")
	plan := explain(t, pool, "select msg_id from pgmq.q_t where vt <= statement_timestamp() order by vt, msg_id limit 10 for update skip locked")
	require.Contains(t, plan, "Index Scan using q_t_p0_vt_idx")
	require.NotContains(t, plan, "Seq Scan on q_t_p0")
}

func explain(t *testing.T, pool *pgxpool.Pool, sql string) (plan string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), "explain (costs off) "+sql)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan += line + "\n"
	}
	require.NoError(t, rows.Err())
	return plan
}

func TestCreateQueue_RefusesInvalidPartitionOptions(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	err := client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueuePartitioned})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "CREATE EXTENSION pg_partman")
	for _, options := range []pgmq.QueueOptions{
		{Kind: pgmq.QueuePartitioned, PartitionInterval: -1},
		{Kind: pgmq.QueuePartitioned, RetentionInterval: -1},
		{Kind: pgmq.QueuePartitioned, PartitionInterval: 1_000_000_000},
		{Kind: 3},
	} {
		require.ErrorIs(t, client.CreateQueue(t.Context(), "t", &options), pgmq.ErrInvalidConfig, options)
	}
	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Empty(t, queues)
}

func TestDropQueue_LetsPublishRecreateQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	messages := subscribe(t, client)
	requireReceives(t, messages, "a")
	for _, want := range []bool{true, false} {
		existed, err := client.DropQueue(t.Context(), "t")
		require.NoError(t, err)
		require.Equal(t, want, existed)
	}
	require.Equal(t, 0, get[int](t, pool, "select count(*) from pg_class where relname in ('q_t', 'a_t')"))
	publish(t, client, "b")
	requireReceives(t, messages, "b")
}

func TestDropQueue_RefusesQueueInUse(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	_, err = tx.Exec(t.Context(), "select from pgmq.q_t")
	require.NoError(t, err)
	existed, err := client.DropQueue(t.Context(), "t")
	require.False(t, existed)
	require.ErrorContains(t, err, "pg_stat_activity")
}

func TestDropQueue_DropsQueueOfOwnGroupOnly(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	posted := subscribe(t, bills)
	require.NoError(t, mail.SubscribeInitialize("t"))
	publish(t, mail, "a")
	existed, err := mail.DropQueue(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, existed)
	publish(t, mail, "b")
	requireReceives(t, posted, "a", "b")
}

func TestQueues_SkipsQueueWithoutTable(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('Orders'), pgmq.create('orders'), pgmq.create('Lost'), pgmq.create('lost')")
	execute(t, pool, "select pgmq.drop_queue('lost')")
	queues, err := client.Queues(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"orders plain"}, described(queues))
	require.False(t, queues[0].CreatedAt.IsZero())
}

func TestPurgeQueue_EmptiesQueueAndKeepsSubscription(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a", "b")
	messages := subscribe(t, client)
	held := receive(t, messages)
	deleted, err := client.PurgeQueue(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, 2, deleted)
	requireCount(t, pool, "pgmq.q_t", 0)
	held.Ack()
	publish(t, client, "c")
	pgtest.Eventually(t, patience, "the next message", func() bool {
		msg := receive(t, messages) // b may have been on its way
		msg.Ack()
		return msg.UUID == "c"
	})
}

func TestClose_EndsAdministration(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	require.NoError(t, client.Close())
	_, err := client.Queues(t.Context())
	require.ErrorIs(t, err, backend.ErrClosed)
	require.ErrorIs(t, client.CreateQueue(t.Context(), "t", nil), backend.ErrClosed)
	_, err = client.DropQueue(t.Context(), "t")
	require.ErrorIs(t, err, backend.ErrClosed)
	require.ErrorIs(t, client.Publish("t", message.NewMessage("", nil)), backend.ErrClosed)
}
