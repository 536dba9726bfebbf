package pgmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// archiveOld stores messages in the archive that were acked three days ago, a minute ago, and one that was
// quarantined three days ago.
const archiveOld = `
insert into pgmq.a_t (msg_id, enqueued_at, archived_at, vt, message, headers)
	select n, now(), now() - interval '3 days', now(), '"old"', '{"tenant":"a"}' from generate_series(1000, 3499) as n;
insert into pgmq.a_t (msg_id, enqueued_at, archived_at, vt, message, headers)
	values (5000, now(), now() - interval '1 minute', now(), '"new"', null),
		(5001, now(), now() - interval '3 days', 'infinity', '"quarantined"', '{"reason_poisoned":"it is huge"}'),
		(5002, now(), now() - interval '3 days', now(), '"a handled dead letter"', '{"reason_poisoned":"r","topic_poisoned":"t"}'),
		(5003, now(), now() - interval '3 days', now(), '"headers that are no object"', '[1]'),
		(5004, now(), 'infinity', now(), '"for ever"', null)`

func pruning(t *testing.T, database string, config pgmq.SubscriberConfig, log *logRecorder) *pgmq.Client {
	t.Helper()
	config.Archive, config.ArchiveFor = true, 72*time.Hour
	client := openAt(t, database, pgmq.Config{Subscriber: config, Logger: log.logger()})
	client.PruneEvery(50 * time.Millisecond)
	return client
}

func TestArchiveFor_DeletesWhatWasAckedLongAgo(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	client := pruning(t, database, pgmq.SubscriberConfig{}, log)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, archiveOld)
	other := pruning(t, database, pgmq.SubscriberConfig{}, log)
	subscribe(t, client)
	subscribe(t, other)
	requireCount(t, pool, "pgmq.a_t", 3)
	require.Equal(t, []int64{5000, 5001, 5004}, get[[]int64](t, pool, "select array_agg(msg_id order by msg_id) from pgmq.a_t"))
	require.NotContains(t, log.String(), "cannot be pruned")
}

func TestArchiveFor_WaitsForBusyConsumer(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	client := pruning(t, database, pgmq.SubscriberConfig{}, log)
	client.PruneEvery(400 * time.Millisecond)
	messages := subscribe(t, client)
	publish(t, client, "a")
	start := time.Now()
	msg := receive(t, messages)
	execute(t, pool, archiveOld)
	requireCount(t, pool, "pgmq.a_t", 3)
	require.Greater(t, time.Since(start), 3*time.Second, "ten rounds are left out")
	msg.Ack()
	requireCount(t, pool, "pgmq.a_t", 4)
}

// A trigger of the owner's refuses some, among many others.
func TestArchiveFor_WhatDoesNotGoKeepsNoOthers(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	client := pruning(t, database, pgmq.SubscriberConfig{}, log)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, archiveOld)
	execute(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin raise exception 'it is kept by law'; end $$`)
	execute(t, pool, `create trigger refuse before delete on pgmq.a_t for each row when (old.msg_id in (1000, 1700, 5003)) execute function refuse()`)
	subscribe(t, client)
	requireCount(t, pool, "pgmq.a_t", 6)
	require.Equal(t, []int64{1000, 1700, 5000, 5001, 5003, 5004}, get[[]int64](t, pool, "select array_agg(msg_id order by msg_id) from pgmq.a_t"))
	log.requireLogged(t, "the message 1000 stays")
	log.requireLogged(t, "it is kept by law")
}

// However many they are, and whatever code their trigger gives.
func TestPruning_PassesByManyThatDoNotGo(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t'), pgmq.create('t_dead')")
	execute(t, pool, `insert into pgmq.a_t (msg_id, enqueued_at, archived_at, vt, message)
		select n, now(), now() - interval '3 days', now(), to_jsonb(n) from generate_series(1, 50) as n`)
	execute(t, pool, `insert into pgmq.q_t_dead (enqueued_at, vt, message, headers)
		select now() - interval '2 days', now(), to_jsonb(n), '{"topic_poisoned":"t"}' from generate_series(1, 50) as n`)
	execute(t, pool, `create function refuse() returns trigger language plpgsql as $$ begin raise insufficient_privilege using message = 'it is kept by law'; end $$`)
	for _, table := range []string{"a_t", "q_t_dead"} {
		execute(t, pool, "create trigger refuse before delete on pgmq."+table+" for each row when (old.msg_id < 45) execute function refuse()")
	}
	subscribe(t, pruning(t, database, pgmq.SubscriberConfig{DeadLettersFor: 24 * time.Hour}, &logRecorder{}))
	requireCount(t, pool, "pgmq.a_t", 44)
	requireCount(t, pool, "pgmq.q_t_dead", 44)
}

// What is not there is nothing to prune.
func TestPruning_OfDroppedQueueIsSilent(t *testing.T) {
	t.Parallel()
	database, log := pgtest.Database(t), &logRecorder{}
	pool := pgtest.Pool(t, database)
	client := pruning(t, database, pgmq.SubscriberConfig{StopWhenDropped: true}, log)
	messages := subscribe(t, client)
	_, err := client.Subscribe(t.Context(), "other")
	require.NoError(t, err)
	execute(t, pool, "select pgmq.drop_queue('t')")
	for range messages { // until it ends
	}
	execute(t, pool, "insert into pgmq.a_other (msg_id, enqueued_at, archived_at, vt, message) select n, now(), now() - interval '3 days', now(), '1' from generate_series(1, 3000) as n")
	requireCount(t, pool, "pgmq.a_other", 0)
	require.NotContains(t, log.String(), "cannot be pruned")
}

// What cannot be pruned is said, and stops no consumer.
func TestArchiveFor_WithoutPrivilegeIsLogged(t *testing.T) {
	t.Parallel()
	database, log := ordersDatabase(t), &logRecorder{}
	role := pgtest.Role(t, database, grantsOf(t, "ezq_consumer")...)
	client := pruning(t, role, pgmq.SubscriberConfig{NoCreate: true}, log)
	messages, err := client.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	log.requireLogged(t, "the archive cannot be pruned")
	log.requireLogged(t, "GRANT SELECT, UPDATE, DELETE ON")
	receive(t, messages).Ack()

	grant := "grant update, delete on pgmq.a_orders to {role}" // as docs/postgres.md says
	execute(t, pgtest.Pool(t, database), "insert into pgmq.a_orders (msg_id, enqueued_at, archived_at, vt, message) values (7, now(), now() - interval '4 days', now(), '1')")
	allowed := pruning(t, pgtest.Role(t, database, append(grantsOf(t, "ezq_consumer"), grant)...), pgmq.SubscriberConfig{NoCreate: true}, &logRecorder{})
	_, err = allowed.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	requireCount(t, pgtest.Pool(t, database), "pgmq.a_orders where msg_id = 7", 0)
}

func TestArchiveFor_RefusesWhatMeansNothing(t *testing.T) {
	t.Parallel()
	for _, config := range []pgmq.SubscriberConfig{
		{ArchiveFor: time.Hour}, {Archive: true, ArchiveFor: time.Second}, {Archive: true, ArchiveFor: -1},
	} {
		_, err := pgmq.New(nil, &pgmq.Config{Subscriber: config})
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorContains(t, err, "ArchiveFor")
	}
}
