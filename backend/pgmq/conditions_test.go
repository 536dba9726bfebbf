package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// conditional returns a message with an ID, a payload of the same text, and a condition.
func conditional(ctx context.Context, id string, c *backend.PublishCondition, delay time.Duration) *message.Message {
	msg := message.NewMessageWithContext(backend.WithPublishCondition(ctx, c), id, []byte(id))
	if delay > 0 {
		backend.SetDelay(msg, delay)
	}
	return msg
}

func publishOn(t *testing.T, p message.Publisher, id string, c *backend.PublishCondition, delay time.Duration) backend.PublishResult {
	t.Helper()
	require.NoError(t, p.Publish("t", conditional(t.Context(), id, c, delay)))
	result, ok := c.Result()
	require.True(t, ok, "nothing was reported")
	return result
}

func publishOnTopic(t *testing.T, p message.Publisher, topic, id string, c *backend.PublishCondition) {
	t.Helper()
	require.NoError(t, p.Publish(topic, conditional(t.Context(), id, c, 0)))
}

func once() *backend.PublishCondition { return &backend.PublishCondition{Once: true} }

func unique(key string) *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: key} }

func replacing(key string, debounce time.Duration) *backend.PublishCondition {
	return &backend.PublishCondition{UniqueKey: key, Replace: true, Debounce: debounce}
}

func existed(id string) backend.PublishResult {
	return backend.PublishResult{Outcome: backend.PublishExisted, ID: id}
}

func TestOnce_StoresAnIDOncePerWindow(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, client, "a", once(), 0))
	require.Equal(t, existed("a"), publishOn(t, client, "a", once(), 0))
	receive(t, subscribe(t, client)).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Equal(t, existed("a"), publishOn(t, client, "a", once(), 0), "after it was acked")
	execute(t, pool, "update pgmq.ezq_ids set until = now()")
	require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, client, "a", once(), 0), "after its window")
	require.NoError(t, client.Publish("other", conditional(t.Context(), "a", once(), 0)))
	requireCount(t, pool, "pgmq.q_other", 1)
}

func TestOnce_StoresTheNewMessagesOfABatch(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "b", once(), 0)
	conditions := []*backend.PublishCondition{once(), once(), once(), once()}
	require.NoError(t, client.Publish("t",
		conditional(t.Context(), "a", conditions[0], 0), conditional(t.Context(), "b", conditions[1], 0), message.NewMessage("plain", []byte("plain")),
		conditional(t.Context(), "c", conditions[2], 0), conditional(t.Context(), "c", conditions[3], 0), message.NewMessage("plain", []byte("plain"))))
	var outcomes []backend.PublishOutcome
	for _, c := range conditions {
		result, _ := c.Result()
		outcomes = append(outcomes, result.Outcome)
	}
	require.Equal(t, []backend.PublishOutcome{backend.PublishStored, backend.PublishExisted, backend.PublishStored, backend.PublishExisted}, outcomes)
	require.Equal(t, "b,a,plain,c,plain", get[string](t, pool, "select string_agg(headers->>'ezq_uuid', ',' order by vt, msg_id) from pgmq.q_t"), "in the order of the batch")
}

func TestOnce_ForgetsIDs(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", once(), 0)
	execute(t, pool, "insert into pgmq.ezq_ids select sha256(i::text::bytea), now() - interval '1 second' from generate_series(1, 100) i")
	for i := range 50 {
		publishOn(t, client, fmt.Sprint(i), once(), 0)
	}
	require.Equal(t, 51, get[int](t, pool, "select count(*) from pgmq.ezq_ids"))
}

func TestConditions_AreDecidedBetweenPublishersAtOnce(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	clients := []*pgmq.Client{
		openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{}),
		openAt(t, database+"&default_transaction_isolation=serializable", pgmq.Config{}),
	}
	for _, c := range []*backend.PublishCondition{once(), unique("before")} {
		publishOn(t, clients[0], "before", c, 0)
	}
	const rounds, publishers = 20, 4
	var publishing sync.WaitGroup
	for _, client := range clients {
		for range publishers {
			publishing.Go(func() {
				for round := range rounds {
					for _, c := range []*backend.PublishCondition{once(), unique(fmt.Sprint(round)), replacing(fmt.Sprint("r", round), 0)} {
						if err := client.Publish("t", conditional(t.Context(), fmt.Sprint(round), c, 0)); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	publishing.Wait()
	requireCount(t, pool, "pgmq.q_t", 3*rounds+2)
}

func TestUnique_KeyIsFreeWhenItsMessageIsDone(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, client, "a", unique("k"), 0))
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0), "while it waits")
	require.Equal(t, backend.PublishStored, publishOn(t, client, "x", unique("other"), 0).Outcome)
	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.Equal(t, "a", msg.UUID)
	require.Empty(t, msg.Metadata, "the key is not metadata")
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0), "while it is handled")
	backend.Nack(msg, backend.Redelivery{Delay: time.Second, Failures: 1})
	receive(t, messages).Ack() // x
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0), "while it is to be handled again")
	receive(t, messages).Ack()
	requireStored(t, client, "b", "k", "after its ack")
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "t_dead"})
	requireStored(t, client, "c", "k", "after it was dead-lettered")
	receive(t, messages).Ack()
}

// requireStored publishes a message with a key until the settlement of the last one is stored.
func requireStored(t *testing.T, client *pgmq.Client, id, key, when string) {
	t.Helper()
	pgtest.Eventually(t, patience, "the key is free "+when, func() bool {
		return publishOn(t, client, id, unique(key), 0).Outcome == backend.PublishStored
	})
}

func TestReplace_TakesThePlaceOfWhatWaits(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.Equal(t, backend.PublishStored, publishOn(t, client, "a", replacing("k", 0), time.Hour).Outcome)
	due := get[time.Time](t, pool, "select vt from pgmq.q_t")
	require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "a"}, publishOn(t, client, "b", replacing("k", 0), 2*time.Hour))
	require.Equal(t, due, get[time.Time](t, pool, "select vt from pgmq.q_t"), "the clock of the first one counts")
	execute(t, pool, "update pgmq.q_t set vt = now()")
	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.Equal(t, "b", msg.UUID)
	require.Equal(t, "b", string(msg.Payload))

	require.Equal(t, backend.PublishStored, publishOn(t, client, "c", replacing("k", 0), 0).Outcome, "beside one that is being handled")
	beside := receive(t, messages)
	require.Equal(t, "c", beside.UUID)
	require.True(t, msg.Ack() && beside.Ack())
	requireCount(t, pool, "pgmq.q_t", 0)
}

// A message of which no more is known than that it is locked is being handled.
func TestReplace_WaitsForNoHandler(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", replacing("k", 0), 0)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "select from pgmq.q_t for update")
	require.NoError(t, err)
	require.Equal(t, backend.PublishStored, publishOn(t, client, "b", replacing("k", 0), 0).Outcome)
	require.Equal(t, backend.PublishExisted, publishOn(t, client, "c", unique("k"), 0).Outcome)
}

func TestDebounce_WaitsUntilItsLongestTime(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", replacing("k", time.Hour), time.Minute)
	first := get[time.Time](t, pool, "select enqueued_at from pgmq.q_t")
	publishOn(t, client, "b", replacing("k", time.Hour), 30*time.Minute)
	require.WithinDuration(t, first.Add(30*time.Minute), get[time.Time](t, pool, "select vt from pgmq.q_t"), time.Minute, "the clock starts again")
	publishOn(t, client, "c", replacing("k", time.Hour), 90*time.Minute)
	require.Equal(t, first.Add(time.Hour), get[time.Time](t, pool, "select vt from pgmq.q_t"), "and ends")
	require.Equal(t, "c", get[string](t, pool, "select headers->>'ezq_uuid' from pgmq.q_t"))
}

func TestConditions_EndWithTheTransaction(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "first", replacing("r", 0), time.Hour)
	for _, commit := range []bool{false, true} {
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		publisher := client.WithTx(tx)
		require.Equal(t, backend.PublishStored, publishOn(t, publisher, "a", once(), 0).Outcome)
		require.Equal(t, existed("a"), publishOn(t, publisher, "a", once(), 0))
		require.Equal(t, backend.PublishStored, publishOn(t, publisher, "b", unique("k"), 0).Outcome)
		require.Equal(t, existed("b"), publishOn(t, publisher, "c", unique("k"), 0))
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "first"}, publishOn(t, publisher, "d", replacing("r", 0), 0))
		if commit {
			require.NoError(t, tx.Commit(t.Context()))
		} else {
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}
	require.Equal(t, "a,b,d", get[string](t, pool, "select string_agg(headers->>'ezq_uuid', ',' order by headers->>'ezq_uuid') from pgmq.q_t"))
}

func TestConditions_EndWithTheTransactionOfDatabaseSQL(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "first", unique("first"), 0)
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { _ = db.Close() })
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		publisher := client.WithSQLTx(tx)
		require.Equal(t, backend.PublishStored, publishOn(t, publisher, "a", once(), 0).Outcome)
		require.Equal(t, existed("a"), publishOn(t, publisher, "a", once(), 0))
		require.Equal(t, backend.PublishStored, publishOn(t, publisher, "b", unique("k"), time.Hour).Outcome)
		require.Equal(t, existed("b"), publishOn(t, publisher, "c", unique("k"), 0))
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "b"}, publishOn(t, publisher, "d", replacing("k", time.Minute), 0))
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
	}
	require.Equal(t, "a,d,first", get[string](t, pool, "select string_agg(headers->>'ezq_uuid', ',' order by headers->>'ezq_uuid') from pgmq.q_t"))
}

// The second publisher waits for the first one's transaction, and does as that ends.
func TestConditions_WaitForTheTransactionThatIsFirst(t *testing.T) {
	t.Parallel()
	for name, condition := range map[string]func() *backend.PublishCondition{
		"an ID":              once,
		"a key":              func() *backend.PublishCondition { return unique("k") },
		"a key that repeats": func() *backend.PublishCondition { return replacing("k", 0) },
	} {
		for _, commit := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, commit %v", name, commit), func(t *testing.T) {
				t.Parallel()
				client, pool := open(t, pgmq.Config{})
				publishOn(t, client, "before", condition(), 0)
				execute(t, pool, "delete from pgmq.q_t")
				tx, err := pool.Begin(t.Context())
				require.NoError(t, err)
				defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
				require.Equal(t, backend.PublishStored, publishOn(t, client.WithTx(tx), "a", condition(), time.Hour).Outcome)
				second, done := condition(), make(chan error, 1)
				go func() { done <- client.Publish("t", conditional(t.Context(), "a", second, 0)) }()
				select {
				case err := <-done:
					require.NoError(t, err)
					require.Fail(t, "the second did not wait")
				case <-time.After(200 * time.Millisecond): // twice as long as it may wait for a lock
				}
				if commit {
					require.NoError(t, tx.Commit(t.Context()))
				} else {
					require.NoError(t, tx.Rollback(t.Context()))
				}
				require.NoError(t, <-done)
				result, _ := second.Result()
				require.Equal(t, commit, result.Outcome != backend.PublishStored)
				requireCount(t, pool, "pgmq.q_t", 1)
			})
		}
	}
}

func TestConditions_CountForEachGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	if !get[bool](t, pool, "select to_regclass('pgmq.topic_bindings') is not null") {
		t.Skip("this PGMQ has no topic bindings")
	}
	groups := map[string]<-chan *message.Message{}
	for _, name := range []string{"one", "two"} {
		groups[name] = subscribe(t, openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: name, MaxInFlight: 1}}))
	}
	client := openAt(t, database, pgmq.Config{})
	require.Equal(t, backend.PublishStored, publishOn(t, client, "a", unique("k"), 0).Outcome)
	first, second := receive(t, groups["one"]), receive(t, groups["two"])
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0), "both groups have it")
	first.Ack()
	pgtest.Eventually(t, patience, "the first group gets another one", func() bool {
		return publishOn(t, client, "c", unique("k"), 0).Outcome == backend.PublishStored
	})
	next := receive(t, groups["one"])
	require.Equal(t, "c", next.UUID)
	next.Ack()
	second.Ack()

	require.Equal(t, backend.PublishStored, publishOn(t, client, "d", once(), 0).Outcome)
	require.Equal(t, existed("d"), publishOn(t, client, "d", once(), 0))
	for name := range groups {
		msg := receive(t, groups[name])
		require.Equal(t, "d", msg.UUID, name)
		msg.Ack()
	}
}

func TestConditions_WorkOnEveryKindOfQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	for _, create := range []string{"create", "create_unlogged"} {
		queue := "k_" + create
		execute(t, pool, fmt.Sprintf("select pgmq.%s('%s')", create, queue))
		requireConditions(t, client, queue)
	}
	// As pg_partman leaves it, whose extension a test server does not have.
	execute(t, pool, `select pgmq.create('parts'); drop table pgmq.q_parts;
		create table pgmq.q_parts (like pgmq.q_k_create including defaults including identity) partition by range (msg_id);
		create table pgmq.q_parts_1 partition of pgmq.q_parts (primary key (msg_id)) for values from (0) to (2);
		create table pgmq.q_parts_2 partition of pgmq.q_parts (primary key (msg_id)) for values from (2) to (1000000)`)
	requireConditions(t, client, "parts")

	execute(t, pool, `drop index pgmq.ezq_key_q_parts`)
	administered := openAt(t, pool.Config().ConnString(), pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	err := administered.Publish("parts", conditional(t.Context(), "a", unique("k"), 0))
	require.ErrorIs(t, err, pgmq.ErrNotPrepared)
	const remedy = `CREATE INDEX "ezq_key_q_parts" ON "pgmq"."q_parts" (pg_catalog.left(headers->>'ezq_unique'::text, 400)) WHERE pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string'`
	require.ErrorContains(t, err, remedy)
	execute(t, pool, remedy)
	publishOnTopic(t, administered, "parts", "b", unique("other"))
}

func requireConditions(t *testing.T, client *pgmq.Client, topic string) {
	t.Helper()
	var outcomes []backend.PublishOutcome
	for _, c := range []*backend.PublishCondition{once(), once(), unique("k"), unique("k"), replacing("k", 0), replacing("k", time.Minute)} {
		require.NoError(t, client.Publish(topic, conditional(t.Context(), "a", c, 0)))
		result, _ := c.Result()
		outcomes = append(outcomes, result.Outcome)
	}
	require.Equal(t, []backend.PublishOutcome{backend.PublishStored, backend.PublishExisted, backend.PublishStored, backend.PublishExisted, backend.PublishReplaced, backend.PublishReplaced}, outcomes, topic)
}

// Statistics are those of a queue of one message, and so are the plans that a connection may have kept.
func TestConditions_LookTheKeyUpInAnIndex(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database+"&pool_max_conns=1", pgmq.Config{}), pgtest.Pool(t, database)
	publishOn(t, client, "a", unique("k"), 0)
	execute(t, pool, "vacuum analyze pgmq.q_t")
	for range 10 {
		publishOn(t, client, "a", unique("k"), 0)
		publishOn(t, client, "a", replacing("k", 0), 0)
	}
	execute(t, pool, `
		insert into pgmq.q_t (vt, message, headers) select now(), '{}', jsonb_build_object('ezq_unique', 't/' || i) from generate_series(1, 20000) i`)
	before := get[int](t, pool, "select coalesce(seq_tup_read, 0) from pg_stat_user_tables where relname = 'q_t'")
	for i := range 10 {
		require.Equal(t, backend.PublishExisted, publishOn(t, client, "a", unique(fmt.Sprint(i+1)), 0).Outcome)
		require.Equal(t, backend.PublishReplaced, publishOn(t, client, "a", replacing(fmt.Sprint(i+100), 0), 0).Outcome)
	}
	execute(t, pool, `do $$ begin
		if current_setting('server_version_num')::int >= 150000 then perform pg_stat_force_next_flush(); end if; end $$`)
	pgtest.Eventually(t, patience, "the statistics are there", func() bool {
		return get[int](t, pool, "select coalesce(idx_scan, 0) from pg_stat_user_indexes where relname = 'q_t' and indexrelname = 'ezq_key_q_t'") > 0
	})
	require.Less(t, get[int](t, pool, "select coalesce(seq_tup_read, 0) from pg_stat_user_tables where relname = 'q_t'")-before, 20000)
}

func TestConditions_SayWhatIsMissing(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	execute(t, pool, "select pgmq.create('t')")
	for sql, c := range map[string]*backend.PublishCondition{
		"create table pgmq.ezq_ids": once(),
		`CREATE INDEX CONCURRENTLY "ezq_key_q_t" ON "pgmq"."q_t" (pg_catalog.left(headers->>'ezq_unique'::text, 400)) WHERE pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string'`: unique("k"),
	} {
		err := client.Publish("t", conditional(t.Context(), "a", c, 0))
		require.ErrorIs(t, err, pgmq.ErrNotPrepared)
		require.ErrorIs(t, err, pgmq.ErrRejected)
		require.ErrorContains(t, err, sql)
	}
	execute(t, pool, `create table pgmq.ezq_ids (key bytea primary key, until timestamptz not null); create index on pgmq.ezq_ids (until)`)
	execute(t, pool, `CREATE INDEX CONCURRENTLY "ezq_key_q_t" ON "pgmq"."q_t" (pg_catalog.left(headers->>'ezq_unique'::text, 400)) WHERE pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string'`)
	publishOn(t, client, "a", once(), 0)
	publishOn(t, client, "b", unique("k"), 0)
	requireCount(t, pool, "pgmq.q_t", 2)
}

func TestConditions_NameTableOfIDsThatIsAnotherOne(t *testing.T) {
	t.Parallel()
	for name, columns := range map[string]string{
		"a table of IDs without a primary key is named":  "key bytea, until timestamptz",
		"a table of IDs with another key is named":       "id bytea primary key, until timestamptz",
		"a table of IDs without the time until is named": "key bytea primary key",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, "create table pgmq.ezq_ids ("+columns+")")
			err := client.Publish("t", conditional(t.Context(), "a", once(), 0))
			require.ErrorIs(t, err, pgmq.ErrNotPrepared)
			require.ErrorIs(t, err, pgmq.ErrRejected)
			require.ErrorContains(t, err, "drop it, and run create table pgmq.ezq_ids")
		})
	}
}

func TestConditions_RecoverFromWhatWasDropped(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", once(), 0)
	execute(t, pool, "drop table pgmq.ezq_ids")
	require.Equal(t, backend.PublishStored, publishOn(t, client, "a", once(), 0).Outcome)
	execute(t, pool, "select pgmq.drop_queue('t')")
	require.Equal(t, backend.PublishStored, publishOn(t, client, "b", unique("k"), 0).Outcome)
	execute(t, pool, "select pgmq.drop_queue('t'); select pgmq.create('t')")
	require.Equal(t, backend.PublishStored, publishOn(t, client, "b", unique("k"), 0).Outcome)
}

// The index cannot be made while the transaction itself writes to the queue.
func TestUnique_NeedsNoIndexAtFirst(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		publisher := client.WithTx(tx)
		publish(t, publisher, "plain")
		require.Equal(t, backend.PublishStored, publishOn(t, publisher, "a", unique("k"), 0).Outcome)
		require.Equal(t, existed("a"), publishOn(t, publisher, "b", unique("k"), 0))
		require.Equal(t, backend.PublishReplaced, publishOn(t, publisher, "c", replacing("k", 0), 0).Outcome)
		return nil
	}))
	requireCount(t, pool, "pgmq.q_t", 2)
	const indexes = "select count(*) from pg_index where indrelid = 'pgmq.q_t'::regclass and indexprs is not null"
	require.Zero(t, get[int](t, pool, indexes))
	other, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	require.Equal(t, existed("c"), publishOn(t, other, "d", unique("k"), 0))
	require.Equal(t, 1, get[int](t, pool, indexes))
}

// The transaction would not see that the message with the key is gone, and store nothing.
func TestUnique_IsRefusedInASnapshotThatMayBeOld(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "a", unique("k"), 0)
	for _, isolation := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		require.NoError(t, pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{IsoLevel: isolation}, func(tx pgx.Tx) error {
			for _, c := range []*backend.PublishCondition{unique("k"), replacing("k", 0)} {
				err := client.WithTx(tx).Publish("t", conditional(t.Context(), "b", c, 0))
				require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
				require.ErrorContains(t, err, "READ COMMITTED")
			}
			publishOn(t, client.WithTx(tx), string(isolation), once(), 0) // the transaction goes on
			return nil
		}))
	}
	requireCount(t, pool, "pgmq.q_t", 3)
}

// Others wait neither behind it nor for a connection.
func TestConditions_StopNoOtherPublishWhileTheyWait(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database+"&pool_max_conns=2", pgmq.Config{}), pgtest.Pool(t, database)
	publishOn(t, client, "before", unique("before"), 0)
	publishOn(t, client, "before", once(), 0)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	publishOn(t, client.WithTx(tx), "k", unique("k"), 0)
	publishOn(t, client.WithTx(tx), "x", once(), 0)
	var waiting sync.WaitGroup
	var done atomic.Int32
	for i := range 10 { // which try all the time, and give up after 30 s
		waiting.Go(func() {
			c := []*backend.PublishCondition{once(), unique("k"), replacing("k", 0)}[i%3]
			if err := client.Publish("t", conditional(t.Context(), []string{"x", "k", "k"}[i%3], c, 0)); err != nil {
				t.Error(err)
			}
			done.Add(1)
		})
	}
	for i := range 5 {
		publish(t, client, "plain")
		require.Equal(t, backend.PublishStored, publishOn(t, client, fmt.Sprint("other ", i), once(), 0).Outcome)
		require.Equal(t, backend.PublishStored, publishOn(t, client, "other", unique(fmt.Sprint("other ", i)), 0).Outcome)
	}
	require.Zero(t, done.Load(), "they did not wait")
	require.NoError(t, tx.Commit(t.Context()))
	waiting.Wait()
}

func TestConditions_SayForWhatTheyHaveWaited(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "before", unique("before"), 0)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	publishOn(t, client.WithTx(tx), "k", unique("k"), 0)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err = client.Publish("t", conditional(ctx, "b", unique("k"), 0))
		cancel()
		if !errors.Is(err, pgmq.ErrUnknownOutcome) { // as it is if the time is over while a statement is on its way
			break
		}
	}
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "another transaction, which has not ended, has published the same ID or key")
}

// What a transaction forgets, it would keep locked until its end.
func TestOnce_ForgetsNothingInATransaction(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publishOn(t, client, "daily", once(), 0)
	execute(t, pool, "update pgmq.ezq_ids set until = now()")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	publishOn(t, client.WithTx(tx), "another", once(), 0)
	require.Equal(t, backend.PublishStored, publishOn(t, client, "daily", once(), 0).Outcome)
}

func TestID_OfTheFormOfAGeneratedOneIsRefused(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	err := client.Publish("t", conditional(t.Context(), "t/7", once(), 0))
	require.ErrorIs(t, err, pgmq.ErrInvalidMessage)
	require.ErrorAs(t, err, new(*backend.RefusedError))
	require.Equal(t, backend.PublishStored, publishOn(t, client, "orders/7", once(), 0).Outcome)
	requireCount(t, pool, "pgmq.q_t", 2)
}

// A dead letter that is moved back would be beside another one of its key.
func TestUnique_DeadLetterHasNoKey(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t_dead')")
	publishOn(t, client, "a", unique("k"), 0)
	messages := subscribe(t, client)
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "t_dead", Metadata: message.Metadata{backend.DeadLetterTopic: "t"}})
	requireCount(t, pool, "pgmq.q_t_dead", 1)
	require.False(t, get[bool](t, pool, "select headers ? 'ezq_unique' from pgmq.q_t_dead"))
}

func TestReplace_LeavesWhatWasDelivered(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	if !get[bool](t, pool, "select exists (select from pg_attribute where attrelid = 'pgmq.meta'::regclass) and to_regproc('pgmq.send_topic') is not null") {
		t.Skip("this PGMQ does not record leases")
	}
	publishOn(t, client, "a", replacing("k", 0), 0)
	backend.Nack(receive(t, subscribe(t, client)), backend.Redelivery{Delay: time.Hour, Uncounted: true}) // as a snooze is
	pgtest.Eventually(t, patience, "it is snoozed", func() bool {
		return get[bool](t, pool, "select read_ct = 0 and vt > now() + interval '50 minutes' from pgmq.q_t")
	})
	require.Equal(t, backend.PublishResult{ID: "b"}, publishOn(t, client, "b", replacing("k", 0), time.Hour))
	require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "b"}, publishOn(t, client, "c", replacing("k", 0), 0), "of two the one that was not delivered")
	requireCount(t, pool, "pgmq.q_t", 2)
}

func TestUnique_WorksBesideForeignKeys(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, `select pgmq.create('t')`)
	execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select now(), '{}', jsonb_build_object('ezq_unique', k)
		from (select string_agg(md5(i::text), '') as text from generate_series(1, 1000) i) s, unnest(array[to_jsonb(repeat('x', 100000)), '7', '{}', 'null', to_jsonb(s.text)]) k`)
	publishOn(t, client, "a", unique("k"), 0)
	require.Equal(t, existed("a"), publishOn(t, client, "b", unique("k"), 0))
}

func TestConditions_LeaveATransactionWithoutAPoolAsItWas(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t')")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		publisher, err := pgmq.NewPublisher(tx, nil)
		require.NoError(t, err)
		err = publisher.Publish("t", conditional(t.Context(), "a", once(), 0))
		require.ErrorIs(t, err, pgmq.ErrNotPrepared)
		publishOn(t, publisher, "a", unique("k"), 0)
		var timeout string
		require.NoError(t, tx.QueryRow(t.Context(), "show lock_timeout").Scan(&timeout))
		require.Equal(t, "0", timeout)
		return nil
	}))
	requireCount(t, pool, "pgmq.q_t", 1)
}

func TestConditions_DoWithoutAPool(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	publisher, err := pgmq.NewPublisher(conn, nil)
	require.NoError(t, err)
	publishOn(t, publisher, "a", once(), 0)
	publishOn(t, publisher, "b", unique("k"), 0)
	publishOn(t, publisher, "c", replacing("r", 0), 0)
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		inside, err := pgmq.NewPublisher(tx, nil)
		require.NoError(t, err)
		require.Equal(t, existed("a"), publishOn(t, inside, "a", once(), 0))
		require.Equal(t, existed("b"), publishOn(t, inside, "x", unique("k"), 0))
		return nil
	}))
	requireCount(t, pool, "pgmq.q_t", 3)
}

func TestOnce_KeepsTheTickOfASchedule(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	begun := tryTick(t, client, "nightly", time.Now())
	for i, want := range []backend.PublishOutcome{backend.PublishStored, backend.PublishExisted} {
		tick, c := &backend.ScheduleTick{Schedule: "nightly", At: begun.Now.Add(time.Duration(i+1) * time.Microsecond)}, unique("k")
		msg := conditional(backend.WithScheduleTick(t.Context(), tick), "a", c, 0)
		require.NoError(t, client.Publish("t", msg))
		taken, _ := tick.Result()
		require.Equal(t, backend.TickPublished, taken.Outcome)
		result, _ := c.Result()
		require.Equal(t, want, result.Outcome)
	}
}

func TestConditions_NeedTheirPrivileges(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	owner := openAt(t, database, pgmq.Config{})
	publishOn(t, owner, "first", once(), 0)
	publishOn(t, owner, "first", unique("first"), 0)
	grants := []string{"grant usage on schema pgmq to {role}", "grant insert (vt, message, headers) on pgmq.q_t to {role}"}
	if get[bool](t, pool, "select to_regclass('pgmq.topic_bindings') is not null") {
		grants = append(grants, "grant select on pgmq.topic_bindings to {role}")
	}
	url := pgtest.Role(t, database, grants...)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	client := openAt(t, url, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	for _, c := range []*backend.PublishCondition{once(), unique("k"), replacing("k", 0)} {
		err := client.Publish("t", conditional(t.Context(), "a", c, 0))
		require.ErrorIs(t, err, pgmq.ErrPermission)
		require.ErrorIs(t, err, pgmq.ErrRejected)
		failed := new(pgmq.Error)
		require.ErrorAs(t, err, &failed)
		grant := strings.TrimPrefix(failed.Remedy, "let the owner run ")
		execute(t, pool, strings.ReplaceAll(grant, "the role", pgx.Identifier{config.User}.Sanitize()))
		want := backend.PublishStored
		if c.Replace {
			want = backend.PublishReplaced
		}
		require.Equal(t, want, publishOn(t, client, "a", c, 0).Outcome)
	}
}
