package subscription_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

func TestMemoryIsBounded(t *testing.T) {
	t.Run("by what is claimed and not settled", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.MaxInFlight = 1
			r.config.MaxPrefetch = 100
			r.config.MaxInFlightBytes = 5_000
			r.store.size = 1_000
			r.store.publish(200)
			c := r.subscribe()
			for range 200 {
				msg := c.receive()
				time.Sleep(time.Millisecond)
				c.ack(msg)
			}
			require.Equal(t, 5, mostHeld(r.store.read()))
		})
	})
	t.Run("also after there was nothing to claim, and as many are claimed at once as fit", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.MaxInFlightBytes = 5_000
			r.store.size = 1_000
			c := r.subscribe()
			r.store.publish(1)
			c.ack(c.receive())
			time.Sleep(time.Second)
			claims := len(c.seen(claiming))
			r.store.publish(10)
			for range 10 {
				c.ack(c.receive())
			}
			require.Equal(t, 5, mostHeld(r.store.read()))
			require.Equal(t, 5, c.seen(claiming)[claims].limit)
		})
	})
	t.Run("also while nothing is settled, and claiming goes on when something is", func(t *testing.T) {
		bubble(t, func(_ *testing.T, r *rig) {
			r.config.MaxInFlightBytes = 10 * 1_000
			r.config.MaxInFlight = 10
			r.store.size = 1_000
			r.store.publish(10)
			c := r.subscribe()
			held := make([]*message.Message, 0, 10)
			for range 10 {
				held = append(held, c.receive())
			}
			r.store.size = 10_000
			r.store.publish(5)
			c.ack(held[0])
			held = append(held[1:], c.receive())
			c.requireNone()
			for _, msg := range held {
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
	t.Run("and a message that is larger than the bound comes alone", func(t *testing.T) {
		bubble(t, func(_ *testing.T, r *rig) {
			r.config.MaxInFlightBytes = 1
			r.store.size = 1_000
			r.store.publish(1)
			c := r.subscribe()
			first := c.receive()
			r.store.publish(2)
			c.requireNone()
			c.ack(first)
			second := c.receive()
			c.requireNone()
			c.nack(second, 0)
			c.ack(c.receive())
			c.ack(c.receive())
		})
	})
	t.Run("and what becomes of a message does not matter: its bytes are free", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.MaxInFlightBytes = 1
			r.store.size = 1_000
			r.store.publish(1)
			c := r.subscribe()
			for range 3 {
				zombie := c.receive()
				r.store.steal(1, time.Second)
				requireLost(t, zombie)
			}
			c.ack(c.receive())
		})
	})
}
