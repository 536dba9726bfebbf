package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLockedBatch_EndsEarlyWhenMostlySettled(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(9)
		for range 8 {
			c.ack(c.receive())
		}
		slow := c.receive()
		env.store.publish(9)
		for range 8 {
			c.ack(c.receive())
		}
		slower := c.receive()
		env.store.publish(1)
		start := time.Now()
		c.ack(c.receive())
		require.Zero(t, time.Since(start))
		c.ack(slow)
		c.ack(slower)
	})
}

func TestLockedBatch_FailedStartFallsBackToLeases(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		c.script(locking, fault{err: errStore})
		env.store.publish(1)
		c.ack(c.receive())
		failed := len(c.callsOf(locking))
		time.Sleep(5 * time.Second)
		env.store.publish(1)
		c.ack(c.receive())
		require.Len(t, c.callsOf(locking), failed)
	})
}

func TestLockedBatch_LossEndsOtherAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.LockFor = longestLock
		c := env.subscribe()
		for range 10 {
			env.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		env.store.publish(1)
		first := c.receive()
		time.Sleep(longestLock / 2)
		env.store.publish(1)
		second := c.receive()
		c.script(finishing, fault{err: errStore})
		requireLost(t, first)
		synctest.Wait()
		require.Len(t, c.callsOf(finishing), 2)
		require.NoError(t, second.Context().Err())
		c.ack(second)
		c.ack(c.receive())
	})
}

func TestLeaser_StopsLockingForConsumer(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		ensureLease(t, msg)
		c.ack(msg)
		locks := len(c.callsOf(locking))
		for range 200 {
			env.store.publish(1)
			c.ack(c.receive())
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, len(c.callsOf(locking)), locks+1)
	})
}

func TestPrefetch_CountsAckedLockedMessages(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.LockFor, env.config.MaxPrefetch = lockFor, 100
		c := env.subscribe()
		env.store.publish(2000)
		for range 2000 {
			msg := c.receive()
			time.Sleep(100 * time.Microsecond)
			c.ack(msg)
		}
		most := 0
		for _, call := range c.callsOf(locking)[10:] {
			most = max(most, call.limit)
		}
		require.Greater(t, most, 2*env.config.MaxInFlight)
	})
}
