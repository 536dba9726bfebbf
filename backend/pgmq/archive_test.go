package pgmq_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func archiving() pgmq.Config {
	return pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true}}
}

// archive puts messages into the archive, each a day before the next, the last
// now.
func archive(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, fmt.Sprintf(`insert into pgmq.a_t (msg_id, vt, archived_at, message, headers)
		select n, now(), now() - (%[1]d - n) * interval '1 day', '"x"', jsonb_build_object('ezq_uuid', 'm' || n, 'ezq_failures', 7)
		from generate_series(1, %[1]d) as n`, n))
}

func TestArchive_KeepsAckedMessagesForReplay(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	messages := subscribe(t, client)
	sent := message.NewMessage("id-1", []byte("\x00bytes"))
	sent.Metadata.Set("tenant", "a")
	require.NoError(t, client.Publish("t", sent))
	backend.Nack(receive(t, messages), backend.Redelivery{Failures: 1})
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.a_t", 1)
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, "1 2", get[string](t, pool, "select msg_id || ' ' || read_ct from pgmq.a_t where last_read_at is not null"))

	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, 1, replayed)
	again := receive(t, messages)
	require.Equal(t, "id-1", again.UUID)
	require.Equal(t, "\x00bytes", string(again.Payload))
	require.Equal(t, message.Metadata{"tenant": "a"}, again.Metadata)
	require.Zero(t, delivery(again).Failures)
	again.Ack()
	requireCount(t, pool, "pgmq.a_t", 2)
}

func TestReplay_KeepsIDOfForeignMessage(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	messages := subscribe(t, client)
	execute(t, pool, `select pgmq.send('t', '{}')`)
	requireReceives(t, messages, "t/1")
	requireCount(t, pool, "pgmq.a_t", 1)
	_, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	requireReceives(t, messages, "t/1")
}

// After a crash the ids of an unlogged queue begin again, and the archive has them.
func TestArchive_KeepsAllWhenIDsRestart(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	require.NoError(t, client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueueUnlogged}))
	messages := subscribe(t, client)
	for _, round := range []string{"before ", "after ", "after another "} {
		publish(t, client, round+"1", round+"2")
		execute(t, pool, `select pgmq.send('t', '"foreign"')`)
		requireReceives(t, messages, round+"1", round+"2", "t/3")
		requireCount(t, pool, "pgmq.q_t", 0)
		execute(t, pool, "alter table pgmq.q_t alter msg_id restart")
	}
	requireCount(t, pool, "pgmq.a_t", 9)
	require.Equal(t, 3, get[int](t, pool, "select count(*) from pgmq.a_t where msg_id > 0"))
	require.Equal(t, "after 1,after 2,after another 1,after another 2,t/3,t/3", get[string](t, pool,
		"select string_agg(headers->>'ezq_uuid', ',' order by headers->>'ezq_uuid' collate \"C\") from pgmq.a_t where msg_id < 0"))
}

func TestArchive_IgnoresAckAfterLostLease(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	publish(t, client, "a")
	msg := receive(t, subscribe(t, client))
	execute(t, pool, "update pgmq.q_t set read_ct = read_ct + 1, vt = now() + interval '1 hour'") // another consumer has it
	msg.Ack()
	require.NoError(t, client.Close())
	requireCount(t, pool, "pgmq.q_t", 1)
	requireCount(t, pool, "pgmq.a_t", 0)
}

func TestReplay_SelectsByFilter(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	archive(t, pool, 5)
	now := get[time.Time](t, pool, "select now()")
	days := func(n int) time.Time { return now.Add(-time.Duration(n)*24*time.Hour - time.Hour) }
	for _, test := range []struct {
		filter pgmq.ReplayFilter
		want   string
	}{
		{pgmq.ReplayFilter{}, "m1 m2 m3 m4 m5"},
		{pgmq.ReplayFilter{Limit: 2}, "m1 m2"},
		{pgmq.ReplayFilter{From: days(3)}, "m2 m3 m4 m5"},
		{pgmq.ReplayFilter{To: days(3)}, "m1"},
		{pgmq.ReplayFilter{From: days(3), To: days(1)}, "m2 m3"},
		{pgmq.ReplayFilter{From: days(3), To: days(0), Limit: 1}, "m2"},
		{pgmq.ReplayFilter{From: days(0), To: days(3)}, ""},
	} {
		replayed, err := client.Replay(t.Context(), "t", test.filter)
		require.NoError(t, err)
		require.Equal(t, test.want, get[string](t, pool, "select coalesce(string_agg(headers->>'ezq_uuid', ' ' order by vt), '') from pgmq.q_t"), test.filter)
		deleted, err := client.PurgeQueue(t.Context(), "t")
		require.NoError(t, err)
		require.Equal(t, deleted, replayed)
	}
	_, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{Limit: -1})
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	requireCount(t, pool, "pgmq.a_t", 5)
}

func TestReplay_KeepsOrderAcrossBatches(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	archive(t, pool, 2500)
	execute(t, pool, "update pgmq.a_t set archived_at = date_trunc('month', archived_at)") // many at the same time
	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, 2500, replayed)
	require.True(t, get[bool](t, pool, "select bool_and(headers->>'ezq_uuid' = 'm' || msg_id) from pgmq.q_t"))
}

func TestPurgeArchive_DeletesOldMessagesOnly(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	archive(t, pool, 2500)
	old := get[time.Time](t, pool, "select now() - interval '9.5 days'")
	for _, want := range []int{2490, 0} {
		deleted, err := client.PurgeArchive(t.Context(), "t", old)
		require.NoError(t, err)
		require.Equal(t, want, deleted)
	}
	requireCount(t, pool, "pgmq.a_t", 10)
	deleted, err := client.PurgeArchive(t.Context(), "t", time.Time{})
	require.NoError(t, err)
	require.Zero(t, deleted)
}

func TestArchive_WorksFromBeforePGMQ110(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, "alter table pgmq.a_t drop last_read_at")
	messages := subscribe(t, client)
	publish(t, client, "a")
	requireReceives(t, messages, "a")
	requireCount(t, pool, "pgmq.a_t", 1)
}

func TestArchive_WhenUnusableNamesRemedy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		spoil, remedy string
		kind          error
	}{
		{"alter table pgmq.a_t drop headers", "ADD COLUMN headers jsonb", pgmq.ErrTooOld},
		{"drop table pgmq.a_t", "pgmq.create('t')", pgmq.ErrQueueNotFound},
	} {
		client, pool := open(t, archiving())
		execute(t, pool, "select pgmq.create('t')")
		execute(t, pool, test.spoil)
		_, err := client.Subscribe(t.Context(), "t")
		require.ErrorIs(t, err, test.kind)
		require.ErrorContains(t, err, test.remedy)
	}
}

func TestArchive_WorksOnPartitionedQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	requirePartman(t, pool)
	require.NoError(t, client.CreateQueue(t.Context(), "t", &pgmq.QueueOptions{Kind: pgmq.QueuePartitioned, PartitionInterval: 10}))
	messages := subscribe(t, client)
	for i := range 20 {
		publish(t, client, fmt.Sprint(i))
		requireReceives(t, messages, fmt.Sprint(i))
	}
	requireCount(t, pool, "pgmq.a_t", 20)
	replayed, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, 20, replayed)
	_, err = client.Metrics(t.Context(), "t")
	require.NoError(t, err)
	deleted, err := client.PurgeArchive(t.Context(), "t", time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.GreaterOrEqual(t, deleted, 20)
}

func TestArchive_KeepsEachMessageOnceAcrossConsumers(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	archive(t, pool, 300) // whose ids are all taken
	const n = 300
	for range 3 {
		client := openAt(t, database, archiving())
		messages := subscribe(t, client)
		go func() {
			for msg := range messages {
				if rand.IntN(4) == 0 {
					msg.Nack()
				} else {
					msg.Ack()
				}
			}
		}()
	}
	publisher := openAt(t, database, pgmq.Config{})
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint("new ", i))
	}
	publish(t, publisher, ids...)
	requireCount(t, pool, "pgmq.a_t", 300+n)
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, 300+n, get[int](t, pool, "select count(distinct headers->>'ezq_uuid') from pgmq.a_t"))
}

func TestTxMiddleware_ArchivesMessage(t *testing.T) {
	t.Parallel()
	client, pool := open(t, archiving())
	publish(t, client, "a")
	handler := client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
		_, err := pgmq.TxFromContext(msg.Context()).Exec(msg.Context(), "create table effect ()")
		return nil, err
	})
	msg := receive(t, subscribe(t, client))
	_, err := handler(msg)
	require.NoError(t, err)
	msg.Ack()
	requireCount(t, pool, "pgmq.a_t", 1)
	requireCount(t, pool, "effect", 0)
}

// Who replays an archive wants its events handled, although most have a time that is over.
func TestReplay_OfAnEventThatExpiresIsToBeHandled(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	archive(t, pool, 1)
	execute(t, pool, `update pgmq.a_t set headers = headers || '{"x-ezq-expires-at": "2001-01-01T00:00:00Z", "tenant": "a"}'`)
	_, err := client.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.JSONEq(t, `{"ezq_uuid": "m1", "tenant": "a"}`, get[string](t, pool, "select headers::text from pgmq.q_t"))
}
