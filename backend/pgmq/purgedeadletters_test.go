package pgmq_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestPurgeDeadLetters_DeletesAll(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 2001)
	execute(t, pool, "update pgmq.q_dead set vt = vt + interval '1 hour' where msg_id = 7")
	deleted, err := purgeDeadLetters(t.Context(), client, "dead", "t")
	require.NoError(t, err)
	require.Equal(t, 2001, deleted)
	requireCount(t, pool, "pgmq.q_dead", 0)
}

func TestPurgeDeadLetters_LeavesStrays(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders_dead')")
	strays := []string{`null`, `{}`, `[]`, `{"topic_poisoned":["orders"]}`, `{"topic_poisoned":"payments"}`, `{"topic_poisoned":"orders_dead"}`, `{"ezq_queue":"orders"}`}
	insert := func(headers string) {
		_, err := pool.Exec(t.Context(), "insert into pgmq.q_orders_dead (vt, message, headers) values (now(), '{}', $1)", headers)
		require.NoError(t, err)
	}
	for _, headers := range strays {
		insert(headers)
	}
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message) values (now(), '{}')`)
	execute(t, pool, `insert into pgmq.q_orders_dead (vt, message, headers)
		select now(), '{}', '{"topic_poisoned":"orders"}' from generate_series(1, 1500)`)
	insert(strays[1])
	insert(`{"topic_poisoned":"orders","ezq_queue":"payments"}`)

	deleted, err := purgeDeadLetters(t.Context(), client, "orders_dead")
	require.Equal(t, 1501, deleted)
	require.ErrorIs(t, err, pgmq.ErrStrays)
	require.ErrorContains(t, err, `9 messages stay: they are not dead letters of "orders"`)
	requireCount(t, pool, "pgmq.q_orders_dead", len(strays)+2)
	deleted, err = purgeDeadLetters(t.Context(), client, "orders_dead", "payments", "orders")
	require.Equal(t, 1, deleted)
	require.ErrorContains(t, err, `8 messages stay: they are not dead letters of "payments" or "orders"`)
}

func TestPurgeDeadLetters_RefusesLiveQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders'), pgmq.send('orders', '{}')")
	_, err := purgeDeadLetters(t.Context(), client, "orders")
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, `the topic is not named after another one, as "orders_dead" is; ask for that, or name the topics whose dead letters are meant`)
	_, err = purgeDeadLetters(t.Context(), client, "orders", "")
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
	deleted, err := purgeDeadLetters(t.Context(), client, "orders", "orders")
	require.ErrorIs(t, err, pgmq.ErrStrays)
	require.Zero(t, deleted)
	requireCount(t, pool, "pgmq.q_orders", 1)
}

func TestRedrive_RefusesLiveTopic(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders'), pgmq.create('orders_dead')")
	_, redriven := redrive(t.Context(), client, "orders", 10)
	_, seen := client.Origins(t.Context(), "orders", backend.DeadLetterSelection{})
	for _, err := range []error{redriven, seen} {
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorContains(t, err, `as "orders_dead" is; ask for that`)
	}
}
