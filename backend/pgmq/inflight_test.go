package pgmq_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestConcurrency_OfConsumerSetsMaxInFlight(t *testing.T) {
	t.Parallel()
	const concurrency = 150 // more than without a consumer that says so
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "select pgmq.create('t')")
	execute(t, pool, "select pgmq.send_batch('t', array_fill('1'::jsonb, array[200]))")
	ctx := backend.WithConsumer(t.Context(), backend.Consumer{Concurrency: concurrency})
	messages, err := client.Subscribe(ctx, "t")
	require.NoError(t, err)
	for range concurrency {
		defer receive(t, messages).Ack()
	}
}
