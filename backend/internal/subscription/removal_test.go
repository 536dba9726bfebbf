package subscription_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestCancel_EndsTheContextAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(2)
		c := env.subscribe()
		first, second := c.receive(), c.receive()
		env.store.cancel(1)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(first.Context()), backend.ErrCancelled)
		require.NoError(t, second.Context().Err(), "the others go on")
		first.Nack()
		c.ack(second)
		synctest.Wait()
		require.Empty(t, env.store.ids())
		require.EqualValues(t, 1, env.config.Counters.Cancelled.Load())
		require.Zero(t, env.config.Counters.LeasesLost.Load())
		require.Equal(t, 1, env.logs.count("ezq: a message was cancelled while a consumer had it topic=t id=1"))
	})
}

func TestCancel_EndsTheContextOfWhatWasLockedFirst(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		time.Sleep(2 * lockFor)
		env.store.cancel(11)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrCancelled)
		msg.Nack()
	})
}

func TestCancel_IsLookedForOnce(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(2)
		c := env.subscribe()
		first, second := c.receive(), c.receive()
		env.store.cancel(1)
		time.Sleep(lease / 4)
		require.Len(t, c.callsOf(extending), 1)
		first.Nack()
		c.ack(second)
	})
}

func TestCancel_IsNoticedWithTheNextExtension(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		c := env.subscribe()
		msg := c.receive()
		env.store.hidesRemovals.Store(true)
		start := time.Now()
		env.store.cancel(1)
		<-msg.Context().Done()
		require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrCancelled)
		require.Equal(t, lease/3, time.Since(start))
		msg.Nack()
	})
}

func TestCancel_OfWhatWasNotHandedOverHandsItOverNoMore(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxInFlight, env.config.MaxPrefetch = 1, 10
		env.store.publish(3)
		c := env.subscribe()
		first := c.receive()
		synctest.Wait()
		env.store.cancel(2)
		synctest.Wait()
		c.ack(first)
		third := c.receive()
		require.Equal(t, "3", third.UUID)
		c.ack(third)
	})
}

// While a host is suspended, its clock may stand still, and another consumer have handled the message.
func TestCancel_IsNotToldIfTheLeaseMayHaveEndedByTheClockOfTheStore(t *testing.T) {
	for name, test := range map[string]struct {
		standstill time.Duration // of the clock of the host, after the lease was extended
		want       error
	}{
		"the lease was valid": {lease - 2*time.Second, backend.ErrCancelled},
		"the lease had ended": {lease, backend.ErrLeaseLost},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.store.publish(1)
				c := env.subscribe()
				msg := c.receive()
				time.Sleep(lease/3 + time.Second)
				env.store.setAhead(test.standstill)
				env.store.cancel(1)
				synctest.Wait()
				require.Equal(t, test.want, context.Cause(msg.Context()))
				msg.Nack()
			})
		})
	}
}

func TestCancel_OfManyIsLookedForATimeAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxInFlight = 100
		env.store.publish(100)
		c := env.subscribe()
		for range 100 {
			c.receive()
		}
		start := time.Now()
		for id := range int64(100) {
			env.store.cancel(id + 1)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		require.EqualValues(t, 100, env.config.Counters.Cancelled.Load())
		require.LessOrEqual(t, len(c.callsOf(extending)), 20, "in %v", time.Since(start))
	})
}
