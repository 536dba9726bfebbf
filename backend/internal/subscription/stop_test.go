package subscription_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// subscribeStoppable starts a subscription for a consumer. stop has it take no more,
// and interrupt has it wait no longer.
func (env *environment) subscribeStoppable(v *storeView) (c *consumer, stop, interrupt func()) {
	env.t.Helper()
	stopping := make(chan struct{})
	ctx, cancel := context.WithCancelCause(env.t.Context())
	ctx = backend.WithConsumer(ctx, backend.Consumer{Stopping: stopping})
	return env.start(ctx, v), func() { close(stopping) }, func() { cancel(errImpatient) }
}

func TestStop_KeepsDeliveredMessagesAndReleasesOthers(t *testing.T) {
	t.Run("a stopping consumer keeps its messages for as long as it takes", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(2)
			c, stop, _ := env.subscribeStoppable(env.store.viewOf("A"))
			acked, nacked := c.receive(), c.receive()
			stop()
			time.Sleep(50 * time.Minute)
			require.NoError(t, acked.Context().Err())
			require.Len(t, env.store.recorded(claimed), 2, "no other consumer has got them")
			c.ack(acked)
			c.nack(nacked, time.Minute)
			c.requireClosed()
			require.Equal(t, []int64{2}, env.store.ids())
		})
	})
	t.Run("a stopping consumer takes no more, and releases what it had claimed ahead", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 3
			env.store.publish(5)
			c, stop, _ := env.subscribeStoppable(env.store.viewOf("A"))
			msg := c.receive()
			synctest.Wait()
			stop()
			c.requireNone()
			other := env.subscribeAs("B", t.Context())
			for range 4 {
				free := other.receive()
				require.Equal(t, 1, backend.DeliveryFromContext(free.Context()).Number)
				other.ack(free)
			}
			c.ack(msg)
			c.requireClosed()
		})
	})
	t.Run("the channel closes once all outcomes are stored, and not before", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(3)
			c, stop, _ := env.subscribeStoppable(env.store.viewOf("A"))
			c.script(settling, fault{wait: 4 * time.Second}, fault{err: errStore}, fault{lost: errStore})
			first, second, third := c.receive(), c.receive(), c.receive()
			stop()
			start := time.Now()
			c.ack(first)
			time.AfterFunc(time.Second, func() { c.ack(second) })
			time.AfterFunc(2*time.Second, func() { c.ack(third) })
			c.requireClosed()
			require.Empty(t, env.store.ids())
			require.Greater(t, time.Since(start), 4*time.Second)
		})
	})
	t.Run("what a claim under way brings is released at once", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			v := env.store.viewOf("A")
			v.script(claiming, fault{reply: 2 * time.Second})
			env.store.publish(3)
			c, stop, _ := env.subscribeStoppable(v)
			start := time.Now()
			time.Sleep(time.Second)
			require.Len(t, env.store.recorded(claimed), 3)
			stop()
			c.requireClosed()
			require.Equal(t, 2*time.Second, time.Since(start))
			released := env.store.recorded(settled)
			require.Len(t, released, 3)
			for _, e := range released {
				require.Equal(t, subscription.Release, e.action)
			}
		})
	})
	t.Run("the end does not wait for a message whose lease is lost", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c, stop, _ := env.subscribeStoppable(env.store.viewOf("A"))
			msg := c.receive()
			stop()
			env.store.remove(1)
			requireLost(t, msg)
			c.requireClosed()
		})
	})
}

func TestInterrupt_EndsHandlersAndHearsOutcomes(t *testing.T) {
	t.Run("an interrupt ends handlers with its cause, and their outcomes are stored", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c, stop, interrupt := env.subscribeStoppable(env.store.viewOf("A"))
			msg := c.receive()
			stop()
			time.Sleep(time.Minute)
			require.NoError(t, msg.Context().Err())
			interrupt()
			synctest.Wait()
			require.ErrorIs(t, context.Cause(msg.Context()), errImpatient)
			time.Sleep(grace - 1)
			c.ack(msg)
			c.requireClosed()
			require.Empty(t, env.store.ids())
		})
	})
	t.Run("a consumer may be interrupted without a stop before", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c, _, interrupt := env.subscribeStoppable(env.store.viewOf("A"))
			msg := c.receive()
			interrupt()
			synctest.Wait()
			require.ErrorIs(t, context.Cause(msg.Context()), errImpatient)
			c.nack(msg, 0)
			c.requireClosed()
		})
	})
	t.Run("handlers are interrupted at once even if the store hangs", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c, stop, interrupt := env.subscribeStoppable(env.store.viewOf("A"))
			msg := c.receive()
			c.inject(fault{wait: hang}, claiming)
			env.store.publish(1) // makes it claim
			synctest.Wait()
			stop()
			time.Sleep(time.Second)
			interrupt()
			synctest.Wait()
			require.ErrorIs(t, context.Cause(msg.Context()), errImpatient)
			c.ack(msg)
			start := time.Now()
			c.requireClosed()
			require.LessOrEqual(t, time.Since(start), operation)
		})
	})
	t.Run("a message whose handler hangs is not released", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c, _, interrupt := env.subscribeStoppable(env.store.viewOf("A"))
			hung := c.receive()
			time.Sleep(lease)
			c.recordPatience(grace)
			start := time.Now()
			interrupt()
			c.requireClosed()
			require.Equal(t, grace, time.Since(start))
			require.Equal(t, 1, env.logs.count("were not settled in time"))
			require.Empty(t, env.store.recorded(settled))
			require.Len(t, c.callsOf(extending), 3)
			c.ack(hung) // too late: the subscription has ended

			other := env.subscribeAs("B", t.Context())
			msg := other.receive()
			require.LessOrEqual(t, time.Since(start), lease, "when the lease has run out")
			require.Equal(t, 2, backend.DeliveryFromContext(msg.Context()).Number)
			other.ack(msg)
		})
	})
}

func TestDrainTimeout_AppliesWithoutConsumer(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(2)
		ctx, cancel := context.WithCancel(t.Context())
		c := env.subscribeAs("A", ctx)
		late, hung := c.receive(), c.receive()
		start := time.Now()
		c.recordPatience(drain + grace)
		cancel()
		time.Sleep(drain - 1)
		require.NoError(t, late.Context().Err(), "the end of the subscription is not the end of the message")
		<-late.Context().Done()
		synctest.Wait()
		require.Equal(t, drain, time.Since(start))
		require.ErrorIs(t, context.Cause(late.Context()), backend.ErrInterrupted)
		require.ErrorIs(t, context.Cause(hung.Context()), backend.ErrInterrupted)
		c.ack(late)
		c.requireClosed()
		require.Equal(t, drain+grace, time.Since(start))
		require.Equal(t, []int64{2}, env.store.ids())
	})
}
