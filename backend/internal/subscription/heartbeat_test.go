package subscription_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeartbeat_ExtendsLeasesTogether(t *testing.T) {
	t.Run("heartbeats keep a message for as long as it is being handled", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			other := env.subscribeAs("B", t.Context())
			msg := c.receive()
			time.Sleep(env.config.MaxExtension - time.Second)
			other.requireNone()
			require.NoError(t, msg.Context().Err())
			c.ack(msg)
			synctest.Wait()
			require.ErrorIs(t, msg.Context().Err(), context.Canceled)
			require.Empty(t, env.logs.lines, "there is nothing to report")
		})
	})
	t.Run("one call extends all leases of a claim, after a third of a lease", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(5)
			c := env.subscribe()
			for range 5 {
				defer c.ack(c.receive())
			}
			time.Sleep(3*lease/3 + time.Second)
			require.Equal(t, []time.Duration{lease / 3, lease / 3}, c.pauses(extending))
			for _, call := range c.callsOf(extending) {
				require.Len(t, call.tokens, 5)
			}
		})
	})
	t.Run("a heartbeat extends what is due, and what will be due within a sixth of a lease", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			c := env.subscribe()
			for _, pause := range []time.Duration{lease/6 - time.Second, time.Second, 0} {
				env.store.publish(1)
				defer c.ack(c.receive())
				time.Sleep(pause)
			}
			time.Sleep(lease/3 + time.Second)
			calls := c.callsOf(extending)
			require.Len(t, calls, 2)
			require.Len(t, calls[0].tokens, 2, "the first message, and the one soon after it")
			require.Len(t, calls[1].tokens, 1, "the last one")
			require.Equal(t, int64(3), calls[1].tokens[0].ID)
		})
	})
	t.Run("heartbeats end with the message", func(t *testing.T) {
		bubble(t, func(_ *testing.T, env *environment) {
			env.store.publish(2)
			c := env.subscribe()
			c.ack(c.receive())
			c.nack(c.receive(), time.Hour)
			time.Sleep(10 * lease)
			require.Empty(env.t, c.callsOf(extending))
		})
	})
}

func TestExtension_IsRepeatedAfterFailure(t *testing.T) {
	t.Run("an extension is tried again until it works", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			c.script(extending, fault{err: errStore}, fault{lost: errStore}, fault{wait: hang}, fault{reply: hang})
			msg := c.receive()
			time.Sleep(2 * lease)
			require.NoError(t, msg.Context().Err())
			require.Equal(t, 4, env.logs.count("cannot extend leases"))
			c.ack(msg)
		})
	})
	for length, pause := range map[time.Duration]time.Duration{lease: time.Second, lease / 10: lease / 100} {
		t.Run(fmt.Sprintf("the extension of a lease of %v is tried again after %v", length, pause), func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.Lease = length
				env.store.publish(1)
				c := env.subscribe()
				c.script(extending, fault{err: errStore}, fault{err: errStore})
				msg := c.receive()
				time.Sleep(length)
				require.Equal(t, []time.Duration{pause, pause}, c.pauses(extending)[:2])
				c.ack(msg)
			})
		})
	}
	t.Run("a call that takes long leaves time for another try", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.Lease = operation
			env.store.publish(1)
			c := env.subscribe()
			c.script(extending, fault{wait: hang})
			msg := c.receive()
			time.Sleep(2 * operation)
			require.NoError(t, msg.Context().Err())
			c.ack(msg)
		})
	})
	for name, last := range map[string]fault{
		"a failed extension costs the lease when the lease runs out by the local clock, and no sooner": {err: errStore},
		"a store that does not answer costs the lease when it runs out by the local clock":             {wait: hang},
		"a late answer costs the lease when it runs out by the local clock":                            {reply: hang},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.store.publish(1)
				c := env.subscribe()
				c.inject(fault{err: errStore}, extending)
				start := time.Now()
				msg := c.receive()
				time.Sleep(lease - operation/2)
				c.inject(last, extending)
				time.Sleep(operation/2 - 1)
				require.NoError(t, msg.Context().Err())
				requireLost(t, msg)
				require.Equal(t, lease, time.Since(start))
				require.Greater(t, len(c.callsOf(extending)), 10)
				c.ack(msg)
			})
		})
	}
	t.Run("the time that a call took counts against the lease", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			c.script(extending, fault{reply: 4 * time.Second})
			start := time.Now()
			msg := c.receive()
			time.Sleep(lease/3 + 5*time.Second)
			c.inject(fault{err: errStore}, extending)
			requireLost(t, msg)
			require.Equal(t, lease/3+lease, time.Since(start), "a lease lasts from when it was asked for")
			c.ack(msg)
		})
	})
}

func TestLease_LossEndsContext(t *testing.T) {
	t.Run("a lost lease ends the context at the next heartbeat", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(2)
			c := env.subscribe()
			start := time.Now()
			msg, kept := c.receive(), c.receive()
			stolen := env.store.steal(1, time.Hour)
			requireLost(t, msg)
			require.Equal(t, lease/3, time.Since(start))
			require.NoError(t, kept.Context().Err())
			synctest.Wait()
			require.Equal(t, 1, env.logs.count("leases were lost"))
			c.ack(kept)
			env.store.settle("competitor", ackOf(stolen))
		})
	})
	t.Run("the context ends when the subscription itself gets the message again", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			zombie := c.receive()
			env.store.expire(1)
			msg := c.receive()
			requireLost(t, zombie)
			c.ack(zombie)
			synctest.Wait()
			require.Equal(t, []int64{1}, env.store.ids(), "the late ack removes nothing")
			require.NoError(t, msg.Context().Err())
			c.ack(msg)
		})
	})
	t.Run("the context ends when the message is deleted", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			msg := c.receive()
			env.store.remove(1)
			requireLost(t, msg)
			c.ack(msg)
		})
	})
}
