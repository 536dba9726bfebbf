package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestPark_MakesRoomAndKeepsLease(t *testing.T) {
	t.Run("a parked message makes room for one other, until it returns", func(t *testing.T) {
		bubble(t, func(_ *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.store.publish(4)
			c := env.subscribe()
			first := c.receive()
			c.requireNone()
			backend.Park(first.Context(), true)
			backend.Park(first.Context(), true)
			second := c.receive()
			c.requireNone()
			backend.Park(first.Context(), false)
			c.ack(second)
			c.requireNone()
			c.ack(first)
			c.ack(c.receive())
			c.ack(c.receive())
		})
	})
	t.Run("a parked message has its slot again when it returns, although others are claimed ahead", func(t *testing.T) {
		bubble(t, func(_ *testing.T, env *environment) {
			env.config.MaxInFlight, env.config.MaxPrefetch = 1, 10
			env.store.publish(100)
			c := env.subscribe()
			for range 50 {
				msg := c.receive()
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
			returned := c.receive()
			backend.Park(returned.Context(), true)
			other := c.receive()
			backend.Park(returned.Context(), false)
			c.ack(other)
			c.requireNone()
			c.ack(returned)
			c.ack(c.receive())
		})
	})
	t.Run("a parked message keeps its lease", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			msg := c.receive()
			backend.Park(msg.Context(), true)
			time.Sleep(10 * lease)
			require.NoError(t, msg.Context().Err())
			c.ack(msg)
			synctest.Wait()
			require.Empty(t, env.store.ids())
		})
	})
	t.Run("a parked message that is lost or settled frees no slot", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.store.publish(5)
			c := env.subscribe()
			lost := c.receive()
			backend.Park(lost.Context(), true)
			acked := c.receive()
			backend.Park(acked.Context(), true)
			msg := c.receive()
			env.store.remove(1)
			requireLost(t, lost)
			c.requireNone()
			c.ack(acked)
			c.requireNone()
			backend.Park(lost.Context(), false)
			backend.Park(acked.Context(), false)
			c.ack(msg)
			c.ack(c.receive())
			c.ack(c.receive())
		})
	})
	t.Run("a parked message leaves as much room as there was, with any outcome", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 2
			c := env.subscribe()
			for range 3 {
				env.store.publish(3)
				lost, acked, returned := c.receive(), c.receive(), (*message.Message)(nil)
				backend.Park(lost.Context(), true)
				returned = c.receive()
				backend.Park(returned.Context(), true)
				backend.Park(returned.Context(), false)
				env.store.remove(c.tokenOf(lost).ID)
				requireLost(t, lost)
				backend.Park(acked.Context(), true)
				c.ack(acked)
				c.ack(returned)
				synctest.Wait()
			}
			env.store.publish(10)
			defer c.ack(c.receive())
			defer c.ack(c.receive())
			c.requireNone()
			for _, call := range c.callsOf(claiming) {
				require.LessOrEqual(t, call.limit, 2)
			}
		})
	})
}
