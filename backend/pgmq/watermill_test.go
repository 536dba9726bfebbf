package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Watermill's own suite, through the constructors that its users call.

func TestWatermillOrdered(t *testing.T) {
	t.Parallel()
	suite(t, 1, tests.Features{
		ConsumerGroups:                      true,
		Persistent:                          true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
	})
}

func TestWatermillConcurrent(t *testing.T) {
	t.Parallel()
	suite(t, 100, tests.Features{Persistent: true, ConsumerGroups: true})
}

func suite(t *testing.T, maxInFlight int, features tests.Features) {
	suiteOn(t, pgtest.Pool(t, pgtest.Database(t)), maxInFlight, features)
}

func suiteOn(t *testing.T, pool *pgxpool.Pool, maxInFlight int, features tests.Features) {
	open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		publisher, err := pgmq.NewPublisher(pool, nil)
		require.NoError(t, err)
		subscriber, err := pgmq.NewSubscriber(pool, &pgmq.SubscriberConfig{
			Group:        group,
			MaxInFlight:  maxInFlight,
			DrainTimeout: time.Second,
			MaxConns:     2,
		}, watermill.NopLogger{})
		require.NoError(t, err)
		return publisher, subscriber
	}
	plain := func(t *testing.T) (message.Publisher, message.Subscriber) { return open(t, "") }
	tests.TestPubSub(t, features, plain, open)
}
