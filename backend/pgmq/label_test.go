package pgmq_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// The owner of a queue can write any comment on its table.
func TestQueueComment_NamesNoTopicOfAnotherQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	hashed, err := pgmq.QueueName("Orders")
	require.NoError(t, err)
	const unknown = "orders_h0123456789abcdef0123"
	execute(t, pool, "select pgmq.create('orders'), pgmq.create('evil'), pgmq.create('"+hashed+"'), pgmq.create('"+unknown+"')")
	for queue, label := range map[string]string{
		"evil":   `ezq: topic "orders"`,
		"orders": `ezq: topic "payments", group "mail"`,
		hashed:   `ezq: topic "Orders"`,
		unknown:  `ezq: topic "orders", group "mail"`,
	} {
		execute(t, pool, "comment on table pgmq.q_"+queue+" is '"+label+"'")
	}
	execute(t, pool, "select pgmq.bind_topic('orders', '"+unknown+"')")
	states, err := client.QueueStates(t.Context())
	require.NoError(t, err)
	topics := map[string]string{}
	for _, s := range states {
		topics[s.Queue] = s.Topic + s.Group
	}
	require.Equal(t, map[string]string{"evil": "evil", "orders": "orders", hashed: "Orders", unknown: ""}, topics)
	bound, err := client.Bindings(t.Context())
	require.NoError(t, err)
	require.Len(t, bound, 1)
	require.Empty(t, bound[0].Group)
}

// Not in parallel: it measures the memory of the process.
func TestQueueComment_TakesNoMemory(t *testing.T) {
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('orders')")
	execute(t, pool, `do $$ begin execute 'comment on table pgmq.q_orders is ' || quote_literal('ezq: topic "' || repeat('o', 20000000) || '"'); end $$`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	queues, err := client.Queues(t.Context())
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
	require.Equal(t, "orders", queues[0].Topic)
}
