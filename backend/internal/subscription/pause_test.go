package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func TestPause_ReleasesWhatWasNotHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxPrefetch = 10
		env.store.publish(30)
		c := env.subscribe()
		first := c.receive()
		synctest.Wait()
		require.Greater(t, env.config.Counters.Prefetched.Load(), int64(1))

		env.store.setPaused(true)
		synctest.Wait()
		require.Zero(t, env.config.Counters.Prefetched.Load())
		require.NoError(t, first.Context().Err(), "its handler goes on")
		c.ack(first)
		time.Sleep(time.Hour)
		c.requireNone()
		require.Len(t, env.store.ids(), 29, "the ack is stored")
		require.Equal(t, 1, env.logs.count("ezq: the topic is paused; nothing is fetched until it is resumed topic=t by=a test reason=it has one"))

		env.store.setPaused(false)
		for range 29 {
			msg := c.receive()
			require.Zero(t, backend.DeliveryFromContext(msg.Context()).Failures)
			c.ack(msg)
		}
		require.Equal(t, 1, env.logs.count("ezq: no pause of the topic is known any more; fetching goes on"))
	})
}

func TestPause_KeepsNewSubscriptionFromFetching(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		env.store.setPaused(true)
		c := env.subscribe()
		time.Sleep(time.Hour)
		c.requireNone()
		require.Empty(t, c.callsOf(claiming))
		env.store.setPaused(false)
		c.ack(c.receive())
	})
}

// A handler may take longer than the pause, and keeps its lease.
func TestPause_KeepsLeasesOfRunningHandlers(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		c := env.subscribe()
		msg := c.receive()
		env.store.setPaused(true)
		time.Sleep(10 * lease)
		require.NoError(t, msg.Context().Err())
		c.ack(msg)
		synctest.Wait()
		require.Empty(t, env.store.ids())
	})
}

func TestPause_ThatComesDuringFetchReleasesWhatItBrings(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		view := env.store.viewOf("A")
		view.script(claiming, fault{reply: time.Second})
		env.store.publish(3)
		c := env.start(t.Context(), view)
		synctest.Wait()
		env.store.setPaused(true)
		time.Sleep(2 * time.Second)
		c.requireNone()
		released := 0
		for _, e := range env.store.recorded(settled) {
			if e.action == subscription.Release {
				released++
			}
		}
		require.Equal(t, 3, released)
		env.store.setPaused(false)
		for range 3 {
			c.ack(c.receive())
		}
	})
}

func TestPause_EndsWithSubscription(t *testing.T) {
	bubble(t, func(_ *testing.T, env *environment) {
		env.store.publish(1)
		env.store.setPaused(true)
		c := env.subscribe()
		synctest.Wait()
		env.subscriptions.Close()
		c.requireClosed()
	})
}
