package pgmq_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// forged is dead letters that a consumer of orders may write, and that lead elsewhere.
func forged(t *testing.T) (headers []string) {
	t.Helper()
	return []string{
		`{"topic_poisoned":"orders","ezq_queue":"payments"}`,
		`{"topic_poisoned":"payments"}`,
		`{"topic_poisoned":"payments","ezq_queue":"payments"}`,
		`{"topic_poisoned":"x","ezq_queue":"made_by_mallory"}`,
		`{"topic_poisoned":"made_by_mallory"}`,
		`{"topic_poisoned":"orders","ezq_queue":"ezq_schedules"}`,
		`{"topic_poisoned":"orders","ezq_queue":"orders_dead"}`,
		`{"topic_poisoned":"orders","ezq_queue":"payments","ezq_group":"payments"}`,
		`{"topic_poisoned":"orders","ezq_queue":"` + groupQueueOf(t, "payments", "mail") + `","ezq_group":"mail"}`,
		`{"topic_poisoned":"orders","ezq_queue":"` + groupQueueOf(t, "payments", "mail") + `"}`,
		`{"topic_poisoned":"` + strings.Repeat("o", 5000) + `"}`,
		`{"topic_poisoned":["orders"]}`,
		`{"ezq_queue":"orders"}`,
		`[]`,
	}
}

// groupQueueOf returns the name that a subscription gives the queue of a group.
func groupQueueOf(t *testing.T, topic, group string) string {
	t.Helper()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
	require.NoError(t, client.SubscribeInitialize(topic))
	return get[string](t, pgtest.Pool(t, database), "select queue_name from pgmq.topic_bindings where queue_name <> '"+topic+"'")
}

func TestRedrive_RefusesForgedOrigin(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, client := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders'), pgmq.create('orders_dead'), pgmq.create('payments')")
	payments := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	require.NoError(t, payments.SubscribeInitialize("payments"))
	lies := forged(t)
	for _, headers := range append(lies, `{"topic_poisoned":"orders","ezq_queue":"orders"}`, `{"topic_poisoned":"orders"}`) {
		_, err := pool.Exec(t.Context(), "insert into pgmq.q_orders_dead (vt, message, headers) values (now(), '{}', $1)", headers)
		require.NoError(t, err)
	}
	queues := get[int](t, pool, "select count(*) from pgmq.meta")

	moved, err := redrive(t.Context(), client, "orders_dead", 100)
	require.Equal(t, 2, moved)
	require.ErrorIs(t, err, pgmq.ErrStrays)
	require.ErrorContains(t, err, fmt.Sprintf("%d messages stay", len(lies)))
	requireCount(t, pool, "pgmq.q_orders", 2)
	requireCount(t, pool, "pgmq.q_payments", 0)
	requireCount(t, pool, "pgmq.q_orders_dead", len(lies))
	require.Equal(t, queues, get[int](t, pool, "select count(*) from pgmq.meta"), "no queue is created")
}

func TestRedrive_MovesOtherTopicOnRequest(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders_dead'), pgmq.create('payments'), pgmq.create('orders')")
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers) values
		(now(), '{}', '{"topic_poisoned":"payments","ezq_queue":"payments"}'), (now(), '{}', '{"topic_poisoned":"orders"}')`)
	moved, err := redrive(t.Context(), client, "orders_dead", 100, "payments")
	require.Equal(t, 1, moved)
	require.ErrorContains(t, err, `not dead letters of "payments"`)
	requireCount(t, pool, "pgmq.q_payments", 1)
	moved, err = redrive(t.Context(), client, "orders_dead", 100)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
}

func TestOrigins_PreviewRedrive(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders_dead'), pgmq.create('orders')")
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), '{}', h::jsonb from unnest(array['{"topic_poisoned":"orders","ezq_queue":"orders"}',
			'{"topic_poisoned":"orders","ezq_queue":"orders"}', '{"topic_poisoned":"orders"}', '{"topic_poisoned":"orders","ezq_queue":"payments"}', '{}']) as h`)
	found, err := client.Origins(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, []pgmq.Origin{
		{Topic: "orders", Queue: "orders", Letters: 2},
		{Topic: "orders", Letters: 1},
		{Stray: true, Letters: 1},
		{Topic: "orders", Queue: "payments", Stray: true, Letters: 1},
	}, found)
	requireCount(t, pool, "pgmq.q_orders_dead", 5)

	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), '{}', jsonb_build_object('topic_poisoned', 't' || n) from generate_series(1, 3000) as n`)
	found, err = client.Origins(t.Context(), "orders_dead", backend.DeadLetterSelection{Topics: []string{"nothing"}})
	require.NoError(t, err)
	require.Less(t, len(found), 150, "what strays say takes no memory")
	sum := 0
	for _, origin := range found {
		require.True(t, origin.Stray)
		sum += origin.Letters
	}
	require.Equal(t, 3005, sum)
}

func TestOrigins_NameMissingQueues(t *testing.T) {
	t.Parallel()
	name, err := pgmq.GroupQueueName("orders", "mail")
	require.NoError(t, err)
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders_dead')")
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), '{}', h::jsonb from unnest(array['{"topic_poisoned":"orders","ezq_queue":"orders"}', '{"topic_poisoned":"orders"}', '{"topic_poisoned":"orders"}',
			'{"topic_poisoned":"orders","ezq_queue":"`+name+`","ezq_group":"mail"}', '{}']) as h`)
	origins := []pgmq.Origin{
		{Topic: "orders", Letters: 2, Missing: true},
		{Topic: "orders", Queue: "orders", Letters: 1, Missing: true},
		{Topic: "orders", Group: "mail", Queue: name, Letters: 1, Missing: true},
		{Stray: true, Letters: 1},
	}
	found, err := client.Origins(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, origins, found)
	moved, err := redrive(t.Context(), client, "orders_dead", 10)
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.Zero(t, moved)

	execute(t, pool, "select pgmq.create('orders')")
	found, err = client.Origins(t.Context(), "orders_dead", backend.DeadLetterSelection{})
	require.NoError(t, err)
	origins[0].Missing, origins[1].Missing = false, false
	require.Equal(t, origins, found)
	moved, err = redrive(t.Context(), client, "orders_dead", 10)
	require.Equal(t, 3, moved)
	require.ErrorContains(t, err, "if the topic is still in use, let a program subscribe to it with the group of that queue, and redrive again")
}

func TestOrigins_MarkCappedCounts(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	insertDeadLetters(t, pool, 10_000)
	found, err := client.Origins(t.Context(), "dead", backend.DeadLetterSelection{Topics: []string{"t"}})
	require.NoError(t, err)
	require.Equal(t, []pgmq.Origin{{Topic: "t", Letters: 10_000}}, found)
	execute(t, pool, `insert into pgmq.q_dead (vt, message) values (now(), '{}')`)
	found, err = client.Origins(t.Context(), "dead", backend.DeadLetterSelection{Topics: []string{"t"}})
	require.NoError(t, err)
	require.Equal(t, []pgmq.Origin{{Topic: "t", Letters: 10_000, LettersCapped: true}}, found)
}

func TestRedrive_AcceptsGroupQueueWithoutGroupHeader(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	mail := group(t, database, "mail")
	require.NoError(t, mail.SubscribeInitialize("t"))
	of := get[string](t, pool, "select queue_name from pgmq.topic_bindings where queue_name <> 't'")
	execute(t, pool, "select pgmq.create('t_dead')")
	execute(t, pool, `insert into pgmq.q_t_dead (vt, message, headers) values (now(), '{}', '{"topic_poisoned":"t","ezq_queue":"`+of+`"}')`)
	moved, err := redrive(t.Context(), mail, "t_dead", 10)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	requireCount(t, pool, "pgmq.q_"+of, 1)
}

func TestRedrive_RefusedDeadLetterDelaysNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 5)
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, `alter table pgmq.q_t add check (headers->>'ezq_uuid' <> 'm3')`)
	moved, err := redrive(t.Context(), client, "dead", 100, "t")
	require.Equal(t, 4, moved)
	require.ErrorContains(t, err, "check constraint")
	requireCount(t, pool, "pgmq.q_dead", 1)
}

func TestRedrive_LimitsTriesOnRefusingQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 500)
	execute(t, pool, `select pgmq.create('t'); create sequence tries;
		create function refuse() returns trigger language plpgsql as $$ begin
			perform nextval('tries'); raise 'not now' using errcode = '40001'; end $$;
		create trigger refuse before insert on pgmq.q_t for each statement execute function refuse()`)
	moved, err := redrive(t.Context(), client, "dead", 1000, "t")
	require.Zero(t, moved)
	require.ErrorContains(t, err, "not now")
	require.Less(t, get[int](t, pool, "select last_value::int from tries"), 60, "it is not asked for each letter")
}

func TestRedrive_NamesRefusingQueueAndCountsRest(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders_dead'), pgmq.create('orders')")
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers) select now(), to_jsonb(n), '{"topic_poisoned":"orders","ezq_queue":"orders"}'
		from generate_series(1, 2000) as n`)
	execute(t, pool, "alter table pgmq.q_orders add constraint small check (message::int % 500 <> 7)")
	moved, err := redrive(t.Context(), client, "orders_dead", 2000)
	require.Equal(t, 1996, moved)
	require.ErrorContains(t, err, `dead letters that stay: 4; the first is the row 7 and goes to "pgmq"."q_orders"`)
	require.ErrorContains(t, err, "added to the table")

	execute(t, pool, "drop table pgmq.q_orders")
	moved, err = redrive(t.Context(), client, "orders_dead", 2000)
	require.Zero(t, moved)
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, err, `dead letters that stay: 4; the first is the row 7`)
}
