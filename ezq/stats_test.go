package ezq_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func TestStats_CountEveryOutcome(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 3})
		router.Use(deadLetterPermanent)
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			switch {
			case e.ID == 0:
				return ezq.Permanent(errBoom)
			case e.ID == 1 && ezq.MetaFromContext(ctx).Failures == 0:
				return errBoom
			case e.ID >= 4:
				time.Sleep(time.Hour)
			}
			return nil
		}, ezq.Concurrency(2))
		ezq.Handle(router, ignore[mailDue]) // for whose sake more is taken
		require.Equal(t, map[string]ezq.TopicStats{"ezq": {}}, router.Stats())
		publishOrders(t, broker, 4)
		start := time.Now()
		time.AfterFunc(10*time.Second, func() { publish(t, broker, orderPlaced{4}, orderPlaced{5}, orderPlaced{6}) })
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		time.AfterFunc(30*time.Second, func() {
			_ = router.Pause("ezq") // which releases what waits
			synctest.Wait()
			assert(t, router.Stats()["ezq"].InFlight == 2 && router.Stats()["ezq"].Paused)
		})
		require.ErrorIs(t, router.Run(ctx), ezq.ErrDrainTimeout)
		got := router.Stats()["ezq"]
		require.WithinDuration(t, start, got.LastFailure, 0)
		got.LastFailure = time.Time{}
		require.Equal(t, ezq.TopicStats{
			Claimed: 8, Succeeded: 3, Failed: 1, DeadLettered: 1, Released: 1, InFlight: 2, Paused: true,
		}, got)
		time.Sleep(2 * time.Hour) // let the hung handlers end
	})
}

func TestReady_SucceedsWhileRouterReceives(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(context.Context, orderPlaced) error { time.Sleep(5 * time.Second); return nil })
		require.EqualError(t, router.Ready(), "ezq: the router has not been started")
		ended := make(chan error)
		go func() { ended <- router.Run(ctx) }()
		publish(t, broker, orderPlaced{1})
		synctest.Wait()
		require.NoError(t, router.Ready())
		require.NoError(t, router.Pause("ezq"))
		synctest.Wait()
		require.NoError(t, router.Ready(), "to rest is not to be ill")
		stop()
		synctest.Wait()
		require.EqualError(t, router.Ready(), "ezq: the router is stopping")
		require.NoError(t, <-ended)
		require.EqualError(t, router.Ready(), "ezq: the router has stopped")
	})
}

// slowSubscriber takes a while to subscribe.
type slowSubscriber struct{ message.Subscriber }

func (s slowSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	<-time.After(time.Second)
	return s.Subscriber.Subscribe(ctx, topic)
}

func TestReady_FailsAfterLostSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(slowSubscriber{broker}, ezq.Config{})
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
		ended := make(chan error)
		go func() { ended <- router.Run(t.Context()) }()
		synctest.Wait()
		require.EqualError(t, router.Ready(), `ezq: the router has not subscribed to "ezq" yet`)
		time.Sleep(time.Minute)
		require.NoError(t, router.Ready())
		require.NoError(t, broker.Close())
		var lost *ezq.SubscriptionError
		require.ErrorAs(t, <-ended, &lost)
		require.ErrorAs(t, router.Ready(), &lost)
	})
}

// failingSubscriber has outages on demand, as a backend reports them.
type failingSubscriber struct {
	message.Subscriber
	consumers []backend.Consumer
}

func (s *failingSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.consumers = append(s.consumers, backend.ConsumerFromContext(ctx))
	return s.Subscriber.Subscribe(ctx, topic)
}

func (s *failingSubscriber) Features() backend.Features { return backend.FeaturesOf(s.Subscriber) }

func TestReady_FailsDuringOutage(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		failing := &failingSubscriber{Subscriber: broker}
		router := newRouter(failing, ezq.Config{})
		handle(router)
		ended := make(chan error)
		go func() { ended <- router.Run(ctx) }()
		synctest.Wait()
		require.NoError(t, router.Ready())
		failing.consumers[0].Health(errBoom)
		require.ErrorIs(t, router.Ready(), errBoom)
		require.ErrorContains(t, router.Ready(), `nothing from "ezq"`)
		failing.consumers[0].Health(nil)
		require.NoError(t, router.Ready(), "it is over")

		failing.consumers[0].Health(errBoom)
		require.NoError(t, router.Pause("ezq"))
		synctest.Wait()
		require.NoError(t, router.Ready(), "nothing is to be received")
		require.NoError(t, router.Resume("ezq"))
		synctest.Wait()
		require.NoError(t, router.Ready(), "the new subscription has no outage")
		failing.consumers[0].Health(errBoom)
		require.NoError(t, router.Ready(), "the old one does not count any more")
		failing.consumers[1].Health(errBoom)
		failing.consumers[0].Health(nil)
		require.ErrorIs(t, router.Ready(), errBoom, "nor when its outage is over")
		stop()
		require.NoError(t, <-ended)
	})
}
