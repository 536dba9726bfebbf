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

func TestASubscriptionWaitsForAQueueThatWasDropped(t *testing.T) {
	t.Parallel()
	queue, pool := open(t, pgmq.Config{})
	messages := subscribe(t, queue)
	publish(t, queue, "before")
	held := receive(t, messages)

	execute(t, pool, "select pgmq.drop_queue('t')")
	pgtest.Eventually(t, patience, "the subscription says why it gets nothing", func() bool {
		return queue.Stats()["t"].Failing != nil
	})
	require.ErrorIs(t, queue.Stats()["t"].Failing, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, queue.Stats()["t"].Failing, `the queue "t" was dropped; create it with SELECT pgmq.create('t'), or publish to it`)
	held.Ack()
	pgtest.Eventually(t, patience, "what was in it is gone, and that is no trouble", func() bool {
		return queue.Stats()["t"].Gone == 1 && queue.Stats()["t"].Unstored == 0
	})

	publish(t, queue, "after")
	msg := receive(t, messages)
	require.Equal(t, "after", string(msg.Payload))
	require.NoError(t, msg.Context().Err())
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	require.NoError(t, queue.Stats()["t"].Failing)
}

func TestASubscriptionToADroppedQueueEndsIfItShould(t *testing.T) {
	t.Parallel()
	queue, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{StopWhenDropped: true}})
	router := newRouter(queue, ezq.Config{})
	ezq.Handle(router, func(ctx context.Context, _ userCreated) error {
		_, err := pool.Exec(ctx, "select pgmq.drop_queue('ezq')")
		return err
	})
	require.NoError(t, ezq.Publish(t.Context(), queue, userCreated{}))
	err := router.Run(t.Context())
	var lost *ezq.SubscriptionError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, ezq.DefaultTopic, lost.Topic)
}

func TestAHandlerOfADroppedQueueIsToldSoon(t *testing.T) {
	t.Parallel()
	queue, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Second}})
	messages := subscribe(t, queue)
	publish(t, queue, "held")
	held := receive(t, messages)
	execute(t, pool, "select pgmq.drop_queue('t')")
	<-held.Context().Done()
	require.ErrorIs(t, context.Cause(held.Context()), backend.ErrLeaseLost)
	require.EqualValues(t, 1, queue.Stats()["t"].Expired)
}
