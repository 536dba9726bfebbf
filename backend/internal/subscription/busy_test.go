package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

func TestLockedMessage_DelaysOnlyItself(t *testing.T) {
	t.Run("the outcome of a locked message is stored when it can be", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(10)
			c := env.subscribe()
			var all []*message.Message
			for range 10 {
				all = append(all, c.receive())
			}
			env.store.lockFor(1, 3*time.Second)
			env.store.lockFor(2, 3*time.Second)
			for _, msg := range all[1:] {
				c.ack(msg)
			}
			c.nack(all[0], time.Hour)
			synctest.Wait()
			require.Equal(t, []int64{1, 2}, env.store.ids())
			require.EqualValues(t, 2, env.config.Counters.Unstored.Load())
			time.Sleep(3*time.Second + 1200*time.Millisecond)
			require.Equal(t, []int64{1}, env.store.ids())
			require.EqualValues(t, 9, env.config.Counters.Acked.Load())
			require.EqualValues(t, 1, env.config.Counters.Nacked.Load())
			require.Less(t, len(c.settlementCalls()), 15, "each try is a call")
			c.ack(c.receive())
		})
	})
	t.Run("outcomes that come meanwhile are stored at once", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			msg := c.receive()
			env.store.lockFor(1, 20*time.Second)
			c.ack(msg)
			for id := range int64(20) {
				env.store.publish(1)
				c.ack(c.receive())
				synctest.Wait()
				require.NotContains(t, env.store.ids(), id+2)
			}
			time.Sleep(22 * time.Second)
			require.Empty(t, env.store.ids())
		})
	})
	t.Run("the lease of a locked message is extended when it can be", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(2)
			c := env.subscribe()
			locked, free := c.receive(), c.receive()
			env.store.lockFor(1, lease-2*time.Second)
			time.Sleep(3 * lease)
			require.NoError(t, locked.Context().Err())
			require.NoError(t, free.Context().Err())
			require.Less(t, len(c.callsOf(extending)), 30, "each try is a call")
			c.ack(locked)
			c.ack(free)
		})
	})
	t.Run("only the lease that cannot be extended is lost", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(2)
			c := env.subscribe()
			start := time.Now()
			locked, free := c.receive(), c.receive()
			env.store.lockFor(1, 2*lease)
			requireLost(t, locked)
			require.Equal(t, lease, time.Since(start), "neither sooner nor later")
			time.Sleep(2 * lease)
			require.NoError(t, free.Context().Err())
			c.ack(free)
			c.ack(c.receive())
		})
	})
}

func TestSyncAck_LockedMessageKeepsSlot(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.SyncAck = true
		env.config.MaxInFlight = 1
		env.store.publish(2)
		c := env.subscribe()
		msg := c.receive()
		env.store.lockFor(1, 10*time.Second)
		locked := time.Now()
		c.ack(msg)
		next := c.receive()
		require.WithinRange(t, time.Now(), locked.Add(10*time.Second), locked.Add(12*time.Second))
		require.Equal(t, []int64{2}, env.store.ids())
		c.ack(next)
	})
}

func TestClose_WaitsForLockedMessageWithinBounds(t *testing.T) {
	t.Run("an outcome that can be stored while Close waits is stored", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			msg := c.receive()
			env.store.lockFor(1, 3*time.Second)
			c.ack(msg)
			env.subscriptions.Close()
			c.requireClosed()
			require.Empty(t, env.store.ids())
		})
	})
	t.Run("Close waits no longer than an end may take", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(2)
			c := env.subscribe()
			locked, free := c.receive(), c.receive()
			env.store.lockFor(1, time.Hour)
			c.ack(locked)
			c.ack(free)
			start := time.Now()
			env.subscriptions.Close()
			c.requireClosed()
			require.LessOrEqual(t, time.Since(start), lastFlush)
			require.Equal(t, []int64{1}, env.store.ids())
			require.Equal(t, 1, env.logs.count("they will be delivered again"))
		})
	})
}
