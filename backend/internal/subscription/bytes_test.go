package subscription_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

func TestMaxInFlightBytes_BoundsMemory(t *testing.T) {
	t.Run("what is claimed and not settled counts", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.config.MaxPrefetch = 100
			env.config.MaxInFlightBytes = 5_000
			env.store.size = 1_000
			env.store.publish(200)
			c := env.subscribe()
			for range 200 {
				msg := c.receive()
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
			require.Equal(t, 5, mostClaimed(env.store.recorded()))
		})
	})
	t.Run("after an empty queue, as many messages are claimed at once as fit", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlightBytes = 5_000
			env.store.size = 1_000
			c := env.subscribe()
			env.store.publish(1)
			c.ack(c.receive())
			time.Sleep(time.Second)
			claims := len(c.callsOf(claiming))
			env.store.publish(10)
			for range 10 {
				c.ack(c.receive())
			}
			require.Equal(t, 5, mostClaimed(env.store.recorded()))
			require.Equal(t, 5, c.callsOf(claiming)[claims].limit)
		})
	})
	t.Run("claiming stops while nothing is settled, and continues when something is", func(t *testing.T) {
		bubble(t, func(_ *testing.T, env *environment) {
			env.config.MaxInFlightBytes = 10 * 1_000
			env.config.MaxInFlight = 10
			env.store.size = 1_000
			env.store.publish(10)
			c := env.subscribe()
			messages := make([]*message.Message, 0, 10)
			for range 10 {
				messages = append(messages, c.receive())
			}
			env.store.size = 10_000
			env.store.publish(5)
			c.ack(messages[0])
			messages = append(messages[1:], c.receive())
			c.requireNone()
			for _, msg := range messages {
				c.requireNone()
				c.ack(msg)
			}
			for range 4 {
				msg := c.receive()
				c.requireNone()
				c.ack(msg)
			}
		})
	})
	t.Run("a message that is larger than the bound comes alone", func(t *testing.T) {
		bubble(t, func(_ *testing.T, env *environment) {
			env.config.MaxInFlightBytes = 1
			env.store.size = 1_000
			env.store.publish(1)
			c := env.subscribe()
			first := c.receive()
			env.store.publish(2)
			c.requireNone()
			c.ack(first)
			second := c.receive()
			c.requireNone()
			c.nack(second, 0)
			c.ack(c.receive())
			c.ack(c.receive())
		})
	})
	t.Run("every outcome of a message frees its bytes", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlightBytes = 1
			env.store.size = 1_000
			env.store.publish(1)
			c := env.subscribe()
			for range 3 {
				zombie := c.receive()
				env.store.steal(1, time.Second)
				requireLost(t, zombie)
			}
			c.ack(c.receive())
		})
	})
}
