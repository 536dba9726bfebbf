package brokers_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

type orderPlaced struct{ ID int }

// Retries, dead letters and the end need nothing of a broker but that it delivers.
func TestRouter_WorksOnEveryDurableBroker(t *testing.T) {
	for _, b := range brokers.All() {
		if !b.Promises.Durable {
			continue
		}
		t.Run(b.Title(), func(t *testing.T) {
			open := start(t, b)
			system, err := open(t.Context())
			require.NoError(t, err)
			peer, err := system.Connect(conformance.PeerConfig{DrainTimeout: time.Second})
			require.NoError(t, err)
			handleAll(t, peer)
			require.NoError(t, peer.Subscriber.Close())
			require.NoError(t, peer.Publisher.Close())
			if system.Close != nil {
				require.NoError(t, system.Close())
			}
		})
	}
}

func handleAll(t *testing.T, peer *conformance.Peer) {
	t.Helper()
	topic := "orders_" + strings.ToLower(rand.Text())
	dead := topic + "_dead"
	if i, ok := peer.Subscriber.(message.SubscribeInitializer); ok {
		require.NoError(t, i.SubscribeInitialize(topic))
		require.NoError(t, i.SubscribeInitialize(dead))
	}
	var handled, failures, letters, settled atomic.Int32
	done := func(ctx context.Context) error {
		if settled.Add(1) < 3 {
			return nil
		}
		return ezq.Publish(ctx, peer.Publisher, ezq.EndEvent{}, ezq.Topic(topic))
	}
	router := ezq.NewRouter(peer.Subscriber, &ezq.Config{Concurrency: 1})
	router.Use(
		middleware.Retry{Attempts: 5, Delay: 10 * time.Millisecond}.Middleware,
		middleware.Poison{To: peer.Publisher, Topic: dead}.Middleware,
	)
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		switch {
		case e.ID == 3:
			return ezq.Permanent(errors.New("it can never succeed"))
		case e.ID == 2 && failures.Add(1) <= 2:
			return errors.New("not yet")
		}
		handled.Add(1)
		return done(ctx)
	}, ezq.Topic(topic))
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		letters.Add(int32(e.ID))
		return done(ctx)
	}, ezq.Topic(dead))

	require.NoError(t, ezq.PublishBatch(t.Context(), peer.Publisher, []orderPlaced{{1}, {2}, {3}}, ezq.Topic(topic)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, router.Run(ctx))
	require.NoError(t, ctx.Err(), "the EndEvent has to stop the router, not the time limit")
	require.EqualValues(t, 2, handled.Load(), "orders 1 and 2 are handled")
	require.EqualValues(t, 3, failures.Load(), "order 2 is tried again until it succeeds")
	require.EqualValues(t, 3, letters.Load(), "order 3 is the only dead letter")
}
