package ezq_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// blockedSubscriber is a broker with a topic whose subscription does not come about.
type blockedSubscriber struct {
	*memory.Broker
	ignores time.Duration // how long it ignores the context
}

func (s blockedSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if topic != "stuck" {
		return s.Broker.Subscribe(ctx, topic)
	}
	time.Sleep(s.ignores)
	<-ctx.Done()
	return nil, ctx.Err()
}

// A queue that is being created elsewhere, in a transaction that is not committed, is
// such a topic.
func TestRun_EndsWhileSubscribing(t *testing.T) {
	for name, ignores := range map[string]time.Duration{"a subscriber that obeys its context": 0, "a subscriber that ignores its context": time.Hour} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				ctx, stop := context.WithCancel(t.Context())
				router := newRouter(blockedSubscriber{broker, ignores}, ezq.Config{})
				ezq.Handle(router, ignore[orderPlaced], ezq.Topic("stuck"))
				var interrupted time.Time
				ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
					<-ctx.Done()
					interrupted = time.Now()
					return ctx.Err()
				})
				publish(t, broker, orderPlaced{1})
				var stopped time.Time
				time.AfterFunc(time.Second, func() { stopped = time.Now(); stop() })
				require.ErrorIs(t, router.Run(ctx), ezq.ErrDrainTimeout)
				require.Equal(t, 10*time.Second, interrupted.Sub(stopped), "the other topic drains meanwhile")
				require.LessOrEqual(t, time.Since(stopped), 10*time.Second+min(ignores, 15*time.Second))
				require.Len(t, remaining(t, broker), 1)
				time.Sleep(ignores)
			})
		})
	}
}

// What such a subscription brings after all is released.
func TestSubscription_ComingLateReleasesItsMessages(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(slowSubscription{broker}, ezq.Config{})
		ezq.Handle(router, ignore[orderPlaced])
		publish(t, broker, orderPlaced{1})
		time.AfterFunc(time.Second, stop)
		require.NoError(t, router.Run(ctx))
		require.Len(t, remaining(t, broker), 1)
	})
}

// slowSubscription is a broker that takes its time to subscribe, whatever becomes of the context.
type slowSubscription struct{ *memory.Broker }

func (s slowSubscription) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	time.Sleep(5 * time.Second)
	return s.Broker.Subscribe(context.WithoutCancel(ctx), topic)
}

// lateMessage is a broker that hands over a message when its consumer begins to stop.
type lateMessage struct{ *memory.Broker }

func (l lateMessage) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	events, err := l.Broker.Subscribe(backend.WithConsumer(ctx, backend.Consumer{}), topic)
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		<-backend.ConsumerFromContext(ctx).Stopping
		if msg, ok := <-events; ok { // or else the router has ended before
			out <- msg
			<-msg.Nacked()
		}
	}()
	return out, err
}

// A backend may be doing so at the moment in which the router stops.
func TestRun_ReleasesMessagesReceivedWhileStopping(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		for range 20 {
			router := newRouter(lateMessage{broker}, ezq.Config{})
			ezq.Handle(router, ignore[orderPlaced])
			runFor(t, router, time.Second)
			require.Zero(t, router.Stats()["ezq"].Succeeded)
		}
		rest := remaining(t, broker)
		require.Len(t, rest, 1)
		require.Equal(t, 1, rest[0].Delivery)
	})
}
