package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestSubscription_WaitsForDroppedQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	messages := subscribe(t, client)
	publish(t, client, "before")
	held := receive(t, messages)

	execute(t, pool, "select pgmq.drop_queue('t')")
	pgtest.Eventually(t, patience, "the subscription says why it gets nothing", func() bool {
		return client.Stats()["t"].Failing != nil
	})
	require.ErrorIs(t, client.Stats()["t"].Failing, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, client.Stats()["t"].Failing, `the queue "t" was dropped; create it with SELECT pgmq.create('t'), or publish to it`)
	held.Ack()
	pgtest.Eventually(t, patience, "what was in it is gone, and that is no trouble", func() bool {
		return client.Stats()["t"].Gone == 1 && client.Stats()["t"].Unstored == 0
	})

	publish(t, client, "after")
	msg := receive(t, messages)
	require.Equal(t, "after", string(msg.Payload))
	require.NoError(t, msg.Context().Err())
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	require.NoError(t, client.Stats()["t"].Failing)
}

func TestStopWhenDropped_EndsSubscription(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{StopWhenDropped: true}})
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(ctx context.Context, _ userCreated) error {
		_, err := pool.Exec(ctx, "select pgmq.drop_queue('ezq')")
		return err
	})
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{}))
	err := router.Run(t.Context())
	var lost *ezq.SubscriptionError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, ezq.DefaultTopic, lost.Topic)
	for _, err := range []error{err, router.Ready()} {
		require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
		require.ErrorContains(t, err, `the queue "ezq" was dropped; StopWhenDropped has ended the subscription`)
	}
}

func TestLease_EndsSoonAfterQueueIsDropped(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Second}})
	messages := subscribe(t, client)
	publish(t, client, "held")
	held := receive(t, messages)
	execute(t, pool, "select pgmq.drop_queue('t')")
	<-held.Context().Done()
	require.ErrorIs(t, context.Cause(held.Context()), backend.ErrLeaseLost)
	require.EqualValues(t, 1, client.Stats()["t"].LeasesLost)
}
