package pgmq_test

import (
	"testing"

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
