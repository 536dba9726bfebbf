//go:build !race

package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Watermill's test of reconnecting, with a server that is really restarted. It
// has a data race of its own (Watermill 1.5.1: publishedMessages), so it is left
// out under the race detector; TestReconnect_LosesNothingAcrossServerRestart is not.
func TestWatermillReconnect(t *testing.T) {
	server := cluster.Start(t)
	pool := pgtest.Pool(t, server.URL())
	tests.TestReconnect(t, tests.TestContext{
		TestID:   tests.NewTestID(),
		Features: tests.Features{Persistent: true, RestartServiceCommand: server.RestartCommand("fast")},
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		publisher, err := pgmq.NewPublisher(pool, nil)
		require.NoError(t, err)
		subscriber, err := pgmq.NewSubscriber(pool, &pgmq.SubscriberConfig{DrainTimeout: time.Second}, watermill.NopLogger{})
		require.NoError(t, err)
		return publisher, subscriber
	})
}
