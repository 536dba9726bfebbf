package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMaxExtension_BoundsHandling(t *testing.T) {
	for name, limit := range map[string]time.Duration{
		"MaxExtension may be many leases":                           10 * time.Minute,
		"MaxExtension may be less than a lease":                     lease / 2,
		"MaxExtension may be less than a heartbeat":                 time.Second,
		"MaxExtension may be a multiple of a heartbeat":             lease,
		"MaxExtension counts from the hand-over":                    lease + time.Second,
		"MaxExtension bounds handling while the store is reachable": time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.MaxExtension = limit
				env.store.publish(1)
				c := env.subscribe()
				time.Sleep(lease / 4)
				start := time.Now()
				msg := c.receive()
				requireLost(t, msg)
				require.Equal(t, limit, time.Since(start))
				require.Equal(t, 1, env.logs.count("handled for too long"))

				again := c.receive()
				require.LessOrEqual(t, time.Since(start), limit+lease)
				c.ack(again)
			})
		})
	}
}

func TestMaxExtension_IsExceededByOneCallAtMost(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxExtension = lease/3 + time.Second
		env.store.publish(10)
		c := env.subscribe()
		start := time.Now()
		msg := c.receive()
		time.Sleep(lease/3 - time.Second)
		for range 9 {
			defer c.ack(c.receive())
		}
		c.script(extending, fault{reply: 2 * time.Second})
		requireLost(t, msg)
		require.Equal(t, lease/3+2*time.Second, time.Since(start))
	})
}

func TestExtension_OfReleasedLeaseSparesNextLease(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		c := env.subscribe()
		time.Sleep(lease / 2)
		c.inject(fault{err: errStore}, extending)
		time.Sleep(lease/2 - 2*time.Second)
		c.inject(fault{wait: 4 * time.Second}, extending)
		time.Sleep(3500 * time.Millisecond)
		require.Len(t, env.store.recorded(claimed), 2, "it was released and claimed again, while it was being extended")
		msg := c.receive()
		time.Sleep(2 * time.Second)
		require.NoError(t, msg.Context().Err())
		c.ack(msg)
	})
}

func TestExtension_UndoesNoNack(t *testing.T) {
	t.Run("a nack survives an extension that is under way", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			c.script(extending, fault{wait: time.Second})
			msg := c.receive()
			time.Sleep(lease/3 + time.Second/2)
			c.nack(msg, time.Hour)
			nacked := time.Now()
			again := c.receive()
			require.GreaterOrEqual(t, time.Since(nacked), time.Hour)
			c.ack(again)
		})
	})
	t.Run("a nack waits for one extension at most", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(3)
			c := env.subscribe()
			c.inject(fault{wait: hang}, extending)
			nacked, acked, free := c.receive(), c.receive(), c.receive()
			time.Sleep(lease / 3)
			synctest.Wait()
			c.nack(nacked, 0)
			c.ack(acked)
			synctest.Wait()
			require.Equal(t, []int64{1, 3}, env.store.ids(), "an ack need not wait")
			time.Sleep(operation)
			c.ack(c.receive())
			c.ack(free)
		})
	})
}
