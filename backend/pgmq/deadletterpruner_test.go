package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// letterPruning opens a client that keeps dead letters for a day.
func letterPruning(t *testing.T, database string, config pgmq.SubscriberConfig, log *logRecorder) *pgmq.Client {
	t.Helper()
	config.DeadLettersFor = 24 * time.Hour
	client := openAt(t, database, pgmq.Config{Subscriber: config, Logger: log.logger()})
	client.PruneEvery(50 * time.Millisecond)
	return client
}

// oldLetters stores dead letters of a topic and other messages, two days ago. Rows from 3000 on are not to be deleted.
const oldLetters = `
insert into pgmq.q_t_dead (msg_id, enqueued_at, vt, message, headers) overriding system value
	select n, now() - interval '2 days', now(), '{}', '{"topic_poisoned":"t"}' from generate_series(1000, 2999) as n;
insert into pgmq.q_t_dead (msg_id, enqueued_at, vt, message, headers) overriding system value values
	(500, now() - interval '2 days', now(), '{}', '{"topic_poisoned":"t"}'),
	(3000, now() - interval '2 days', now(), '{}', '{"topic_poisoned":"t","ezq_group":"mail"}'),
	(3001, now() - interval '2 days', now(), '{}', '{"topic_poisoned":"u"}'),
	(3002, now() - interval '2 days', now(), '{}', '[]'), (3003, now() - interval '2 days', now(), '{}', null),
	(3004, now() - interval '2 days', now() + interval '1 hour', '{}', '{"topic_poisoned":"t"}'),
	(3005, now() - interval '1 hour', now(), '{}', '{"topic_poisoned":"t"}'),
	(3006, 'infinity', now(), '{}', '{"topic_poisoned":"t"}'),
	(3007, now() - interval '2 days', now(), '{}', jsonb_build_object('topic_poisoned', 't', 'x', repeat('x', 50000000)))`

func TestDeadLettersFor_DeletesOldOnesOfItsOwn(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t_dead')")
	execute(t, pool, oldLetters)
	subscribe(t, letterPruning(t, database, pgmq.SubscriberConfig{}, log))
	subscribe(t, letterPruning(t, database, pgmq.SubscriberConfig{}, log))
	requireCount(t, pool, "pgmq.q_t_dead", 8)
	require.Equal(t, []int64{3000, 3001, 3002, 3003, 3004, 3005, 3006, 3007}, get[[]int64](t, pool, "select array_agg(msg_id order by msg_id) from pgmq.q_t_dead"))
	require.NotContains(t, log.String(), "cannot be pruned")
}

func TestDeadLettersFor_OfGroupDeletesThoseOfGroup(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t_dead')")
	execute(t, pool, `insert into pgmq.q_t_dead (enqueued_at, vt, message, headers)
		select now() - interval '2 days', now(), '{}', jsonb_build_object('topic_poisoned', 't', 'ezq_group', g) from unnest(array['bills', 'mail', 'mail']) as g`)
	subscribe(t, letterPruning(t, database, pgmq.SubscriberConfig{Group: "mail"}, log))
	requireCount(t, pool, "pgmq.q_t_dead", 1)
	require.Equal(t, "bills", get[string](t, pool, "select headers->>'ezq_group' from pgmq.q_t_dead"))
}

// Those that are not to go do not hide those behind them, however many there are.
func TestDeadLettersFor_GoesOnBehindOthers(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t_dead')")
	for _, topic := range []string{"other", "t"} {
		execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t_dead (enqueued_at, vt, message, headers)
			select now() - interval '2 days', now(), '{}', '{"topic_poisoned":"%s"}' from generate_series(1, 2500)`, topic))
	}
	subscribe(t, letterPruning(t, database, pgmq.SubscriberConfig{}, &logRecorder{}))
	requireCount(t, pool, "pgmq.q_t_dead", 2500)
	require.Zero(t, get[int](t, pool, `select count(*)::int from pgmq.q_t_dead where headers->>'topic_poisoned' = 't'`))
}

// What cannot be pruned is said, and stops no consumer.
func TestDeadLettersFor_WithoutPrivilegeIsLogged(t *testing.T) {
	t.Parallel()
	database, log := ordersDatabase(t), &logRecorder{}
	role := pgtest.Role(t, database, grantsOf(t, "ezq_consumer")...)
	client := letterPruning(t, role, pgmq.SubscriberConfig{NoCreate: true, Archive: true}, log)
	messages, err := client.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	log.requireLogged(t, "the dead letters cannot be pruned")
	log.requireLogged(t, "GRANT SELECT, UPDATE, DELETE ON")
	receive(t, messages).Ack()

	execute(t, pgtest.Pool(t, database), `insert into pgmq.q_orders_dead (enqueued_at, vt, message, headers) values (now() - interval '2 days', now(), '{}', '{"topic_poisoned":"orders"}')`)
	grant := "grant select, update, delete on pgmq.q_orders_dead to {role}" // as docs/postgres.md says
	allowed := letterPruning(t, pgtest.Role(t, database, append(grantsOf(t, "ezq_consumer"), grant)...), pgmq.SubscriberConfig{NoCreate: true, Archive: true}, &logRecorder{})
	_, err = allowed.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	requireCount(t, pgtest.Pool(t, database), "pgmq.q_orders_dead", 1) // the young one
}

func TestDeadLettersFor_WaitsForFirstDeadLetter(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	subscribe(t, letterPruning(t, database, pgmq.SubscriberConfig{}, log))
	execute(t, pool, "select pgmq.create('t_dead')")
	execute(t, pool, `insert into pgmq.q_t_dead (enqueued_at, vt, message, headers) values (now() - interval '2 days', now(), '{}', '{"topic_poisoned":"t"}')`)
	requireCount(t, pool, "pgmq.q_t_dead", 0)
	require.NotContains(t, log.String(), "cannot be pruned")
}

func TestDeadLettersFor_RefusesWhatMeansNothing(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{time.Second, -1} {
		_, err := pgmq.New(nil, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{DeadLettersFor: d}})
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorContains(t, err, "DeadLettersFor")
	}
}

// What a trigger refuses to delete, or takes too long for, keeps no other dead letter.
func TestDeadLettersFor_WhatDoesNotGoKeepsNoOthers(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t_dead')")
	execute(t, pool, `insert into pgmq.q_t_dead (enqueued_at, vt, message, headers)
		select now() - interval '2 days', now(), to_jsonb(n), '{"topic_poisoned":"t"}' from generate_series(1, 1200) as n`)
	execute(t, pool, `update pgmq.q_t_dead set headers = headers || jsonb_build_object('x', repeat('x', 5000)) where msg_id in (8, 9, 1101)`)
	execute(t, pool, `create function keep() returns trigger language plpgsql as $$ begin raise exception 'this one is kept'; end $$;
		create trigger keep before delete on pgmq.q_t_dead for each row when (old.message in ('7', '1100')) execute function keep()`)
	subscribe(t, letterPruning(t, database, pgmq.SubscriberConfig{}, log))
	requireCount(t, pool, "pgmq.q_t_dead", 2)
	log.requireLogged(t, "the dead letter 7 stays")
	log.requireLogged(t, "this one is kept")
}
