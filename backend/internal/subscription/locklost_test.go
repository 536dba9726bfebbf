package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// lockRedelivered has a consumer lock n messages that were delivered before; the end of the
// lock takes its time.
func lockRedelivered(env *environment, c *consumer, n int) {
	start := time.Now()
	for range n {
		env.store.publish(10)
		for range 9 {
			c.ack(c.receive())
		}
		c.nack(c.receive(), time.Until(start.Add(time.Minute)))
		time.Sleep(time.Second)
	}
	finished := len(c.callsOf(finishing))
	c.script(finishing, fault{wait: latency})
	time.Sleep(time.Until(start.Add(time.Minute + latency/2)))
	require.Len(env.t, c.callsOf(finishing), finished+1)
	require.Len(env.t, c.callsOf(finishing)[finished].rest, n)
}

func TestLockedBatch_CloseReleasesWaitingMessages(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		lockRedelivered(env, c, 1)
		env.subscriptions.Close()
		c.requireClosed()
		env.subscriptions = subscription.NewSubscriptions()
		other := env.subscribeAs("B", t.Context())
		start := time.Now()
		other.ack(other.receive())
		require.Less(t, time.Since(start), time.Second)
	})
}

func TestLockedBatch_LossWakesFetcher(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.LockFor, env.config.MaxInFlight = lockFor, 2
		c := env.subscribe()
		for range 10 {
			env.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		c.script(finishing, fault{err: errStore})
		env.store.publish(2)
		first, second := c.receive(), c.receive()
		locks := len(c.callsOf(locking))
		requireLost(t, first)
		requireLost(t, second)
		c.ack(c.receive())
		c.ack(c.receive())
		synctest.Wait()
		require.Len(t, c.callsOf(locking), locks)
	})
}

// The subscription fetches again before the acks are stored by themselves.
func TestLockedBatch_LossRefetchesNoAckedMessage(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 1200 // more than one call carries
		env.config.LockFor, env.config.MaxInFlight, env.config.Linger = lockFor, 2*n, time.Second
		env.config.PollMin, env.config.PollMax = pollMin, pollMin
		v := env.store.viewOf("A")
		v.polled = true
		c := env.start(t.Context(), v)
		for range 10 {
			env.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(2 * time.Second)
		env.store.publish(n + 1)
		c.script(finishing, fault{err: errStore})
		for range n {
			c.ack(c.receive())
		}
		requireLost(t, c.receive())
		c.ack(c.receive())
		c.requireNone()
		time.Sleep(2 * time.Second)
		require.Empty(t, env.store.ids())
	})
}
