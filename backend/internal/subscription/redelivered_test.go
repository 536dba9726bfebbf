package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// redeliveringBubble runs f in virtual time with a consumer that locks messages, has
// others fetched ahead, and is about to lock one that has failed once, number 101.
func redeliveringBubble(t *testing.T, f func(t *testing.T, env *environment, c *consumer, again time.Time)) {
	t.Helper()
	bubble(t, func(t *testing.T, env *environment) {
		env.config.LockFor, env.config.MaxPrefetch = lockFor, 10
		c := env.subscribe()
		env.store.publish(300)
		for i := range 300 {
			msg := c.receive()
			time.Sleep(time.Millisecond)
			if i == 100 {
				c.nack(msg, time.Minute)
			} else {
				c.ack(msg)
			}
		}
		time.Sleep(time.Second)
		require.Equal(t, []int64{101}, env.store.ids())
		f(t, env, c, env.redeliveryTime())
	})
}

// redeliveryTime returns when the message comes again that was nacked.
func (env *environment) redeliveryTime() (again time.Time) {
	for _, e := range env.store.recorded(settled) {
		if e.action == subscription.Nack {
			again = e.at.Add(e.delay)
		}
	}
	return again
}

// lockBeside has a message locked that was delivered before, between others that were not.
func lockBeside(env *environment, c *consumer, again time.Time, before, after int) {
	env.t.Helper()
	locked := env.lockedMessages()
	env.store.publishDelayed(before, time.Until(again)-latency/2) // when it begins to look
	env.store.publishDelayed(after, time.Until(again)+latency/4)
	synctest.Wait()
	c.script(locking, fault{wait: latency})
	time.Sleep(time.Until(again) + latency/2)
	synctest.Wait()
	require.Equal(env.t, locked+before+1+after, env.lockedMessages())
}

func TestRedelivery_LeasesItsLockedBatchInOrder(t *testing.T) {
	redeliveringBubble(t, func(t *testing.T, env *environment, c *consumer, again time.Time) {
		finished := len(c.callsOf(finishing))
		lockBeside(env, c, again, 2, 3)
		start := time.Now()
		for _, id := range []string{"301", "302", "101", "303", "304", "305"} {
			require.Len(t, c.callsOf(finishing), finished+1)
			msg := c.receive()
			require.Equal(t, id, msg.UUID)
			c.ack(msg)
		}
		require.Zero(t, time.Since(start))
		require.Empty(t, c.callsOf(finishing)[finished].tokens)
		require.Len(t, c.callsOf(finishing)[finished].rest, 6)
	})
}

func TestRedelivery_WithoutLeaseIsNotDelivered(t *testing.T) {
	for name, broken := range map[string]fault{
		"a redelivery whose lease fails is not delivered":      {err: errStore},
		"a redelivery whose lease is unknown is not delivered": {lost: errStore},
	} {
		t.Run(name, func(t *testing.T) {
			redeliveringBubble(t, func(t *testing.T, env *environment, c *consumer, again time.Time) {
				claims := len(c.callsOf(claiming))
				c.script(finishing, broken)
				lockBeside(env, c, again, 2, 3)
				for range 6 {
					c.ack(c.receive())
				}
				require.Greater(t, len(c.callsOf(claiming)), claims)
				time.Sleep(time.Second)
				require.Empty(t, env.store.ids())
				require.Zero(t, env.config.Counters.LeasesLost.Load(), "no other consumer had them")
			})
		})
	}
}

// It may have ended the process of a consumer, which left no other trace.
func TestRedelivery_OnceLockedIsCountedBeforeDelivery(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		finished := len(c.callsOf(finishing))
		env.store.publishDelayed(1, time.Second)
		env.store.markLocked(11)
		msg := c.receive()
		require.Len(t, c.callsOf(finishing), finished+1)
		require.Equal(t, 1, env.store.numberOf(11))
		c.ack(msg)
	})
}

// A redelivery was not acked soon because it had to be leased.
func TestLocking_IgnoresRedeliveries(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		lockRedelivered(env, c, 10)
		for range 10 {
			c.ack(c.receive())
		}
		locked := env.lockedMessages()
		env.store.publish(1)
		c.ack(c.receive())
		require.Equal(t, locked+1, env.lockedMessages())
	})
}
