package pgmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// The message that is in the way may be the one with the strangest headers.
func TestSQLByHand_TakesAnyHeaders(t *testing.T) {
	t.Parallel()
	for _, headers := range []string{`null`, `'null'`, `'5'`, `'"x"'`, `'[1]'`, `'["reason_poisoned"]'`, `'"reason_poisoned"'`, `'{}'`, `'{"ezq_group":"evil","ezq_unique":"k"}'`} {
		t.Run(headers, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, "select pgmq.create('orders'), pgmq.create('orders_dead')")
			execute(t, pool, "insert into pgmq.q_orders (msg_id, vt, message, headers) overriding system value values (42, now(), '{}', "+headers+")")
			execute(t, pool, sqlBlock(t, `"by hand"`))
			origins, err := client.Origins(t.Context(), "orders_dead", backend.DeadLetterSelection{})
			require.NoError(t, err)
			require.Equal(t, []pgmq.Origin{{Topic: "orders", Queue: "orders", Letters: 1}}, origins)
			moved, err := redrive(t.Context(), client, "orders_dead", 1)
			require.NoError(t, err)
			require.Equal(t, 1, moved)

			execute(t, pool, "insert into pgmq.a_orders (msg_id, vt, message, headers) values (42, now(), '{}', "+headers+")")
			execute(t, pool, sqlBlock(t, "insert into pgmq.q_orders (vt"))
			requireCount(t, pool, "pgmq.a_orders", 1) // it was not quarantined
			execute(t, pool, `update pgmq.a_orders set vt = 'infinity', headers = '{"reason_poisoned":"unreadable"}'`)
			execute(t, pool, sqlBlock(t, "insert into pgmq.q_orders (vt"))
			requireCount(t, pool, "pgmq.q_orders", 2)
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_orders where headers::text like '%poisoned%'"))
		})
	}
}

// What is not kept of a message would have it come back for ever: headers that are no object mean nothing, and make room.
func TestProgress_IsKeptWhateverTheHeadersWere(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, headers := range []string{`null`, `'null'`, `'5'`, `'"x"'`, `'[1]'`, `'{}'`} {
		t.Run(headers, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			messages := subscribe(t, client)
			execute(t, pool, "insert into pgmq.q_t (vt, message, headers) values (now(), '{}', "+headers+")")
			backend.Nack(receive(t, messages), backend.Redelivery{Uncounted: true, UnknownSince: since})
			msg := receive(t, messages)
			require.WithinDuration(t, since, delivery(msg).UnknownSince, 0)
			backend.Nack(msg, backend.Redelivery{Failures: 1, Done: []string{"h"}})
			msg = receive(t, messages)
			require.Equal(t, 1, delivery(msg).Failures)
			require.Equal(t, []string{"h"}, delivery(msg).Done)
			msg.Ack()
		})
	}
}
