package subscription_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutcome_IsStoredInBatches(t *testing.T) {
	t.Run("outcomes that come while one lingers are stored with it", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.Linger = 5 * time.Millisecond
			env.store.publish(4)
			c := env.subscribe()
			first, second, third, late := c.receive(), c.receive(), c.receive(), c.receive()
			start := time.Now()
			c.ack(first)
			c.nack(second, time.Hour)
			time.Sleep(4 * time.Millisecond)
			c.ack(third)
			time.Sleep(2 * time.Millisecond)
			c.ack(late)
			time.Sleep(time.Second)
			calls := c.settlementCalls()
			require.Len(t, calls, 2)
			require.Len(t, calls[0].settle, 3)
			require.Equal(t, 5*time.Millisecond, calls[0].at.Sub(start))
			require.Len(t, calls[1].settle, 1)
		})
	})
	t.Run("outcomes that come while a batch is being stored are the next batch", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(4)
			c := env.subscribe()
			c.script(settling, fault{wait: time.Second})
			c.nack(c.receive(), time.Hour)
			for range 3 {
				time.Sleep(10 * time.Millisecond)
				c.nack(c.receive(), time.Hour)
			}
			time.Sleep(2 * time.Second)
			calls := c.settlementCalls()
			require.Len(t, calls, 2)
			require.Len(t, calls[1].settle, 3)
		})
	})
	t.Run("a claim stores outcomes with it", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.config.Linger = time.Minute
			env.store.publish(3)
			c := env.subscribe()
			for range 3 {
				c.ack(c.receive())
			}
			synctest.Wait()
			require.Empty(t, env.store.ids())
			require.Empty(t, c.callsOf(settling))
		})
	})
	t.Run("a call carries a bounded number of outcomes", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1200
			env.config.Linger = time.Millisecond
			env.store.publish(1200)
			c := env.subscribe()
			for range 1200 {
				c.nack(c.receive(), time.Hour)
			}
			time.Sleep(time.Second)
			carried := 0
			for _, call := range c.settlementCalls() {
				require.LessOrEqual(t, len(call.settle), 500)
				carried += len(call.settle)
			}
			require.Equal(t, 1200, carried)
		})
	})
}

// settlementCalls returns the calls that carried settlements, in the order in which they began.
func (c *consumer) settlementCalls() (calls []call) {
	for _, made := range append(c.callsOf(claiming), c.callsOf(settling)...) {
		if len(made.settle) > 0 {
			calls = append(calls, made)
		}
	}
	slices.SortStableFunc(calls, func(a, b call) int { return a.at.Compare(b.at) })
	return calls
}

func TestOutcome_IsRepeatedUntilStored(t *testing.T) {
	t.Run("storing is tried again until it works, and no outcome is forgotten", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(4)
			c := env.subscribe()
			acked, nacked, later, last := c.receive(), c.receive(), c.receive(), c.receive()
			c.inject(fault{err: errStore}, settling, claiming)
			c.ack(acked)
			c.nack(nacked, time.Second)
			time.Sleep(time.Second)
			c.ack(later)
			c.ack(last)
			time.Sleep(5 * time.Second)
			require.Equal(t, []int64{1, 2, 3, 4}, env.store.ids())
			require.InDelta(t, 3, env.logs.count("cannot store outcomes"), 1, "at once, and after 1 and 2 seconds more")
			c.clearFaults()
			again := c.receive()
			require.Equal(t, []int64{2}, env.store.ids())
			require.Equal(t, nacked.UUID, again.UUID)
			c.ack(again)
		})
	})
	t.Run("an outcome that was stored before is repeated without harm", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 2
			env.store.publish(2)
			c := env.subscribe()
			acked, nacked := c.receive(), c.receive()
			c.script(settling, fault{lost: errStore}, fault{reply: hang}, fault{lost: errStore})
			c.script(claiming, fault{lost: errStore})
			c.ack(acked)
			c.nack(nacked, time.Minute)
			again := c.receive()
			require.Equal(t, "2", again.UUID)
			c.ack(again)
			synctest.Wait()
			require.Empty(t, env.store.ids())
			require.Zero(t, env.logs.count("after their leases were lost"))
		})
	})
	t.Run("a repeated outcome does not touch the lease that another consumer has got", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			c.script(settling, fault{lost: errStore})
			c.nack(c.receive(), 0)
			again := c.receive()
			time.Sleep(time.Second) // the nack is repeated
			require.Len(t, env.store.recorded(claimed), 2)
			require.NoError(t, again.Context().Err())
			c.ack(again)
		})
	})
}

func TestAck_WhenLateIsReportedWithoutEffect(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		c := env.subscribe()
		msg := c.receive()
		stolen := env.store.steal(1, time.Hour)
		requireLost(t, msg)
		c.ack(msg)
		synctest.Wait()
		require.Equal(t, 1, env.logs.count("after their leases were lost"))
		require.Equal(t, []int64{1}, env.store.ids())
		env.store.settle("competitor", ackOf(stolen))
	})
}

func TestAck_InTimeCountsDespiteEndedContext(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxExtension = time.Minute
		env.store.publish(1)
		c := env.subscribe()
		msg := c.receive()
		requireLost(t, msg)
		c.ack(msg)
		synctest.Wait()
		require.Empty(t, env.store.ids(), "no other consumer has got the message")
		require.ErrorIs(t, msg.Context().Err(), context.Canceled)
	})
}
