package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func TestRelease_FollowsLeaseOfUndeliveredMessage(t *testing.T) {
	t.Run("a message that is not received is released after the time of a lease, and was not delivered", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(3)
			c := env.subscribe()
			time.Sleep(lease + time.Second)
			released := env.store.recorded(settled)
			require.Len(t, released, 3)
			for _, e := range released {
				require.Equal(t, subscription.Release, e.action)
				require.Equal(t, accepted, e.result)
				require.Equal(t, lease, e.at.Sub(env.store.recorded(published)[0].at))
			}
			time.Sleep(10 * lease)
			for range 3 {
				msg := c.receive()
				require.Equal(t, 1, backend.DeliveryFromContext(msg.Context()).Number)
				c.ack(msg)
			}
		})
	})
	t.Run("a message that is not received goes to a consumer that does receive", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(5)
			env.subscribe()
			synctest.Wait()
			require.Len(t, env.store.recorded(claimed), 5)
			busy := env.subscribeAs("B", t.Context())
			start := time.Now()
			for range 5 {
				busy.ack(busy.receive())
			}
			require.LessOrEqual(t, time.Since(start), 2*lease)
		})
	})
	t.Run("a released message is left to others for a second, and then claimed again", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			time.Sleep(lease + time.Second - 1)
			require.Len(t, env.store.recorded(claimed), 1)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.Len(t, env.store.recorded(claimed), 2)
			c.ack(c.receive())
		})
	})
	t.Run("a released message is left to others if the one before was received when it was claimed", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(2)
			c := env.subscribe()
			received := c.receive()
			time.Sleep(lease + time.Second - 1)
			require.Len(t, env.store.recorded(claimed), 2)
			c.ack(received)
			c.ack(c.receive())
		})
	})
	t.Run("heartbeats keep a message that is not received", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			time.Sleep(lease - 1)
			require.Len(t, env.store.recorded(claimed), 1)
			require.Len(t, c.callsOf(extending), 2)
			c.ack(c.receive())
		})
	})
}

// The consumer comes back just when the subscription gives up on it.
func TestDelivery_ExcludesRelease(t *testing.T) {
	for range 20 {
		t.Run("a message is delivered or released, and never both", func(t *testing.T) {
			bubble(t, func(_ *testing.T, env *environment) {
				env.config.MaxInFlight = 1
				env.store.publish(100)
				c := env.subscribe()
				for range 100 {
					time.Sleep(lease)
					c.ack(c.receive())
				}
			})
		})
	}
}
