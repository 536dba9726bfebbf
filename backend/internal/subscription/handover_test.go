package subscription_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func TestDelivery_KeepsClaimOrderAndDescribesMessage(t *testing.T) {
	t.Run("messages are delivered in the order of their claims", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 3
			env.config.MaxPrefetch = 20
			env.store.publish(50)
			c := env.subscribe()
			for i := range 50 {
				msg := c.receive()
				require.Equal(t, fmt.Sprint(i+1), msg.UUID)
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
		})
	})
	t.Run("a message describes its subscription and its delivery", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			type key struct{}
			env.store.publish(1)
			c := env.subscribeAs("A", context.WithValue(t.Context(), key{}, "value"))
			msg := c.receive()
			require.Equal(t, "value", msg.Context().Value(key{}))
			require.Equal(t, 1, backend.DeliveryFromContext(msg.Context()).Number)
			c.ack(msg)
		})
	})
	t.Run("a message that is lost before it is received delays no other", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.store.publish(1)
			c := env.subscribe()
			synctest.Wait()
			env.store.remove(1)
			time.Sleep(lease / 2)
			env.store.publish(1)
			msg := c.receive()
			require.Equal(t, "2", msg.UUID)
			c.ack(msg)
		})
	})
}

func TestMaxInFlight_IsNotExceeded(t *testing.T) {
	for name, concurrency := range map[string]int{
		"a consumer gets MaxInFlight":               0,
		"a consumer may want less than MaxInFlight": 2,
		"a consumer gets no more than MaxInFlight":  100,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.MaxInFlight = 4
				env.config.MaxPrefetch = 10
				env.store.publish(9)
				c := env.subscribeAs("A", backend.WithConsumer(t.Context(), backend.Consumer{Concurrency: concurrency}))
				limit := 4
				if concurrency == 2 {
					limit = 2
				}
				inFlight := make([]*message.Message, 0, limit)
				for range limit {
					inFlight = append(inFlight, c.receive())
				}
				c.requireNone()
				for i := range 9 - limit {
					c.ack(inFlight[i])
					inFlight = append(inFlight, c.receive())
					c.requireNone()
				}
				for _, msg := range inFlight {
					c.ack(msg)
				}
			})
		})
	}
	t.Run("messages that come back count as well", func(t *testing.T) {
		bubble(t, func(_ *testing.T, env *environment) {
			env.config.MaxInFlight = 2
			env.store.publish(5)
			c := env.subscribe()
			first := c.receive()
			for range 10 {
				msg := c.receive()
				c.requireNone()
				c.nack(msg, time.Second)
			}
			c.ack(first)
		})
	})
	t.Run("each lease frees one slot, with any outcome", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.store.publish(1)
			c := env.subscribe()
			for range 5 {
				zombie := c.receive()
				env.store.steal(1, time.Second)
				requireLost(t, zombie)
				c.ack(zombie) // frees the slot a second time, or does it?
				synctest.Wait()
			}
			env.store.publish(3)
			defer c.ack(c.receive())
			c.requireNone()
		})
	})
}

func TestPrefetch_FollowsConsumerSpeed(t *testing.T) {
	t.Run("from a store that is not known yet no more is claimed than there are slots", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxPrefetch = 100
			env.store.publish(50)
			c := env.subscribe()
			synctest.Wait()
			require.Len(t, env.store.recorded(claimed), 10)
			require.Equal(t, 10, c.callsOf(claiming)[0].limit)
		})
	})
	t.Run("the prefetch grows with the speed of the consumer, and never beyond MaxInFlight + MaxPrefetch", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxPrefetch = 15
			env.store.publish(500)
			c := env.subscribe()
			for range 500 {
				msg := c.receive()
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
			require.Equal(t, 10+15, mostClaimed(env.store.recorded()))
		})
	})
	t.Run("the prefetch is claimed again when half of it is used", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight, env.config.MaxPrefetch = 1, 10
			env.store.publish(500)
			c := env.subscribe()
			for range 200 {
				msg := c.receive()
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
			claims := len(c.callsOf(claiming))
			for range 100 {
				msg := c.receive()
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
			require.InDelta(t, 100/5, len(c.callsOf(claiming))-claims, 4)
		})
	})
	t.Run("no more is claimed ahead than the consumer handles within 50 ms", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight, env.config.MaxPrefetch = 1, 100
			env.store.publish(500)
			c := env.subscribe()
			for range 100 {
				msg := c.receive()
				time.Sleep(10 * time.Millisecond)
				c.ack(msg)
			}
			require.InDelta(t, 1+5, mostClaimed(env.store.recorded()), 2)
		})
	})
	t.Run("a MaxPrefetch of 0 keeps at most MaxInFlight messages from other consumers", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(100)
			c := env.subscribe()
			for range 100 {
				c.ack(c.receive())
				time.Sleep(time.Millisecond)
			}
			require.Equal(t, 10, mostClaimed(env.store.recorded()))
		})
	})
}

// mostClaimed returns how many leases there were at a time that were neither
// answered nor released.
func mostClaimed(events []event) (most int) {
	open := map[subscription.Token]bool{}
	for _, e := range events {
		switch e.kind {
		case claimed:
			open[e.token] = true
		case answered, settled:
			delete(open, e.token)
		}
		most = max(most, len(open))
	}
	return most
}
