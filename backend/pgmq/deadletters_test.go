package pgmq_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// deadLetterMessage receives a message and makes it a dead letter in the topic "dead".
func deadLetterMessage(t *testing.T, msg *message.Message, topic string) {
	t.Helper()
	giveUpTo(t, msg, "dead", topic)
}

func giveUpTo(t *testing.T, msg *message.Message, to, topic string) {
	t.Helper()
	require.True(t, backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: to, Metadata: message.Metadata{
		backend.DeadLetterTopic:    topic,
		backend.DeadLetterReason:   "no such user",
		backend.DeadLetterHandler:  "mail",
		backend.DeadLetterFailures: "3",
		backend.DeadLetterAt:       "2026-01-02T03:04:05Z",
	}}))
}

// insertDeadLetters writes n dead letters of the topic "t", as the store does.
func insertDeadLetters(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	execute(t, pool, "select pgmq.create('dead')")
	execute(t, pool, fmt.Sprintf(`insert into pgmq.q_dead (vt, message, headers)
		select now(), '{}', jsonb_build_object('ezq_uuid', 'm' || n, 'topic_poisoned', 't') from generate_series(1, %d) as n`, n))
}

// redrive moves up to limit dead letters back, and returns how many.
func redrive(ctx context.Context, client *pgmq.Client, from string, limit int, topics ...string) (int, error) {
	done, err := client.Redrive(ctx, from, backend.DeadLetterSelection{Topics: topics, Limit: limit})
	return done.Moved, err
}

// purgeDeadLetters deletes dead letters, and returns how many.
func purgeDeadLetters(ctx context.Context, client *pgmq.Client, from string, topics ...string) (int, error) {
	done, err := client.PurgeDeadLetters(ctx, from, backend.DeadLetterSelection{Topics: topics})
	return done.Removed, err
}

func idsOf(deadLetters []backend.FoundDeadLetter) (ids []string) {
	for _, deadLetter := range deadLetters {
		ids = append(ids, deadLetter.ID)
	}
	return ids
}

func TestDeadLetters_NameReasonAndCanBeRedriven(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	messages := subscribe(t, client)
	sent := message.NewMessage("id-1", []byte("\x00bytes"))
	sent.Metadata.Set("tenant", "a")
	require.NoError(t, client.Publish("t", sent))
	first := receive(t, messages)
	backend.Nack(first, backend.Redelivery{Failures: 2, Done: []string{"audit"}})
	deadLetterMessage(t, receive(t, messages), "t")
	requireDeadLetter(t, pool)

	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []backend.FoundDeadLetter{{
		Row: 1, ID: "id-1", Topic: "t", Handler: "mail", Reason: "no such user", Failures: 3,
		At:      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Payload: []byte("\x00bytes"), Metadata: message.Metadata{"tenant": "a"},
	}}, deadLetters)
	require.Zero(t, get[int](t, pool, "select read_ct from pgmq.q_dead"), "looking is not receiving")

	moved, err := redrive(t.Context(), client, "dead", 10, "t")
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	back := receive(t, messages)
	require.Equal(t, "id-1", back.UUID)
	require.Equal(t, "\x00bytes", string(back.Payload))
	require.Equal(t, message.Metadata{"tenant": "a"}, back.Metadata)
	require.Zero(t, delivery(back).Failures)
	require.Empty(t, delivery(back).Done)
	back.Ack()
	requireCount(t, pool, "pgmq.q_dead", 0)
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestDeadLetters_ComeOldestFirstUpToLimit(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 3)
	execute(t, pool, "update pgmq.q_dead set vt = vt + interval '1 hour' where msg_id = 1")
	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"m1", "m2"}, idsOf(deadLetters), "those that are leased are listed too")
	_, err = client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: -1})
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	_, err = redrive(t.Context(), client, "dead", -1, "t")
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
}

func TestDeadLetters_ListStraysToo(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('dead')`)
	execute(t, pool, `insert into pgmq.q_dead (vt, message, headers) values
		(now(), null, null), (now(), '{"a": 1}', '[]'), (now(), '"x"', '{"failures_poisoned":"many","poisoned_at":"now"}')`)
	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"dead/1", "dead/2", "dead/3"}, idsOf(deadLetters))
	require.Equal(t, `{"a":1}`, string(deadLetters[1].Payload))
	require.WithinRange(t, deadLetters[2].At, time.Now().Add(-time.Minute), time.Now().Add(time.Minute))
}

// As Redrive, Origins and PurgeDeadLetters tell them from dead letters.
func TestDeadLetters_ListOtherMessagesAsStrays(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "event")
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) values (now(), '{}', '{"ezq_uuid":"letter","topic_poisoned":"t"}')`)
	deadLetters, err := client.DeadLetters(t.Context(), "t", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	heads, err := client.DeadLetterHeads(t.Context(), "t", backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	read, err := client.ReadDeadLetter(t.Context(), "t", deadLetters[0].Row, 0)
	require.NoError(t, err)
	for _, found := range [][]backend.FoundDeadLetter{deadLetters, heads, {read, deadLetters[1]}} {
		require.Equal(t, []string{"event", "letter"}, idsOf(found))
		require.ErrorIs(t, found[0].Err, pgmq.ErrStrays)
		require.NoError(t, found[1].Err)
	}
}

func TestRedrive_StopsAtLimit(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 2500)
	execute(t, pool, "select pgmq.create('t')")
	for _, want := range []int{1, 1001, 1498, 0} {
		moved, err := redrive(t.Context(), client, "dead", max(want, 1), "t")
		require.NoError(t, err)
		require.Equal(t, want, moved)
	}
	require.Equal(t, "m1 m2 m3", get[string](t, pool,
		`select string_agg(headers->>'ezq_uuid', ' ' order by vt) from pgmq.q_t where msg_id <= 3`), "oldest first")
}

func TestRedrive_LeavesLeasedMessagesAndStrays(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 3)
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, "update pgmq.q_dead set vt = vt + interval '1 hour' where msg_id = 2")
	execute(t, pool, "update pgmq.q_dead set headers = null where msg_id = 1")
	moved, err := redrive(t.Context(), client, "dead", math.MaxInt, "t")
	require.Equal(t, 1, moved)
	require.ErrorIs(t, err, pgmq.ErrStrays)
	require.ErrorContains(t, err, "1 messages stay")
	require.Equal(t, "m3", get[string](t, pool, "select headers->>'ezq_uuid' from pgmq.q_t"))
	requireCount(t, pool, "pgmq.q_dead", 2)
}

func TestRedrive_MovesEachDeadLetterOnceConcurrently(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	const n = 3000
	insertDeadLetters(t, pool, n)
	execute(t, pool, "select pgmq.create('t')")
	total := 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		client := openAt(t, database, pgmq.Config{})
		all.Go(func() {
			moved, err := redrive(t.Context(), client, "dead", math.MaxInt, "t")
			mu.Lock()
			defer mu.Unlock()
			total += moved
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, n, total)
	require.Equal(t, n, get[int](t, pool, "select count(distinct headers->>'ezq_uuid') from pgmq.q_t"))
	requireCount(t, pool, "pgmq.q_t", n)
	requireCount(t, pool, "pgmq.q_dead", 0)
}

func TestRedrive_ReturnsDeadLetterToOwnGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	deadLetters, posted := subscribe(t, mail), subscribe(t, bills)
	publish(t, mail, "a")
	requireReceives(t, posted, "a")
	deadLetterMessage(t, receive(t, deadLetters), "t")
	pool := pgtest.Pool(t, database)
	requireDeadLetter(t, pool)

	moved, err := redrive(t.Context(), bills, "dead", 1, "t")
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	requireReceives(t, deadLetters, "a")
	publish(t, mail, "b")
	requireReceives(t, posted, "b")
}

// requireDeadLetter waits for a message in the queue "dead", which may not exist yet.
func requireDeadLetter(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	pgtest.Eventually(t, patience, "a dead letter", func() bool {
		return get[bool](t, pool, "select to_regclass('pgmq.q_dead') is not null") &&
			get[int](t, pool, "select count(*) from pgmq.q_dead") == 1
	})
}

func TestRedrive_SendsWatermillDeadLetterToAllGroups(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	require.NoError(t, mail.SubscribeInitialize("t"))
	require.NoError(t, bills.SubscribeInitialize("t"))
	insertDeadLetters(t, pgtest.Pool(t, database), 1)
	moved, err := redrive(t.Context(), mail, "dead", 1, "t")
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	requireReceives(t, subscribe(t, mail), "m1")
	requireReceives(t, subscribe(t, bills), "m1")
}

func TestRedrive_CreatesNoQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 1)
	for _, before := range []func(){
		func() {},
		func() { publish(t, client, "known"); execute(t, pool, "select pgmq.drop_queue('t')") }, // behind its back
	} {
		before()
		moved, err := redrive(t.Context(), client, "dead", 1, "t")
		require.Zero(t, moved)
		require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
		require.ErrorContains(t, err, "create its queue")
		requireCount(t, pool, "pgmq.q_dead", 1)
	}
	execute(t, pool, "select pgmq.create('t')")
	moved, err := redrive(t.Context(), client, "dead", 1, "t")
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	requireCount(t, pool, "pgmq.q_t", 1)
}

func TestRedrive_MissingOriginDelaysNoOther(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	insertDeadLetters(t, pool, 2)
	execute(t, pool, `update pgmq.q_dead set headers = headers || '{"topic_poisoned":"gone"}' where msg_id = 1`)
	execute(t, pool, "select pgmq.create('t')")
	client := openAt(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	moved, err := redrive(t.Context(), client, "dead", 10, "t", "gone")
	require.Equal(t, 1, moved)
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, err, `"gone"`)
}

func TestDeadLetters_OfMissingQueueAreAnError(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	_, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 1})
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	_, err = redrive(t.Context(), client, "dead", 1, "t")
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	_, err = purgeDeadLetters(t.Context(), client, "dead", "t")
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	_, err = purgeDeadLetters(t.Context(), client, "\x00")
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)

	ended, stop := context.WithCancel(t.Context())
	stop()
	_, err = redrive(ended, client, "dead", 1, "t")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, client.Close())
	_, err = redrive(t.Context(), client, "dead", 1, "t")
	require.ErrorIs(t, err, backend.ErrClosed)
}

func TestDeadLetters_ListEndsWhereItWouldTakeTooMuchMemory(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 9)
	execute(t, pool, "update pgmq.q_dead set message = to_jsonb(repeat('x', 3000)) where msg_id < 8")
	execute(t, pool, "update pgmq.q_dead set message = to_jsonb(repeat('x', 5001)), headers = headers || '{\"ezq_uuid\": \"large\"}' where msg_id = 5")
	execute(t, pool, "update pgmq.q_dead set message = null, headers = headers || jsonb_build_object('a', repeat('x', 5001)) where msg_id = 6")
	client.ListAtMost(10_000)
	page := func(s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
		return client.DeadLetters(t.Context(), "dead", s)
	}
	first, err := page(backend.DeadLetterSelection{})
	truncated := (*backend.TruncatedError)(nil)
	require.ErrorAs(t, err, &truncated)
	require.Equal(t, []string{"m1", "m2", "m3", "m4"}, idsOf(first), "the one with which it has more is there")
	require.ErrorContains(t, err, "go on with After: 4")
	rest, err := page(backend.DeadLetterSelection{After: 4})
	require.NoError(t, err)
	require.Equal(t, []string{"large", "m6", "m7", "m8", "m9"}, idsOf(rest))
	for i, one := range rest {
		if i > 1 {
			require.NoError(t, one.Err)
			continue
		}
		require.ErrorIs(t, one.Err, pgmq.ErrTooLarge, one.ID)
		require.Empty(t, one.Payload)
	}
	whole, err := client.ReadDeadLetter(t.Context(), "dead", 5, 0)
	require.NoError(t, err)
	require.Len(t, whole.Payload, 5003)
	heads, err := client.DeadLetterHeads(t.Context(), "dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, heads, 9)
}
