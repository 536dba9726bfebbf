package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

const (
	pollMin = 10 * time.Millisecond
	pollMax = time.Second
)

func TestWakeup_TellsWhenToClaimWithoutPolling(t *testing.T) {
	t.Run("an empty queue is not polled", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			c := env.subscribe()
			time.Sleep(24 * time.Hour)
			require.Len(t, c.callsOf(claiming), 1)
			require.Empty(t, c.callsOf(settling))
			require.Empty(t, c.callsOf(extending))
		})
	})
	t.Run("a wakeup has a new message claimed", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			c := env.subscribe()
			time.Sleep(time.Hour)
			env.store.publish(1)
			start := time.Now()
			c.ack(c.receive())
			require.Zero(t, time.Since(start))
		})
	})
	t.Run("a wakeup during a claim has the queue claimed again", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			v := env.store.viewOf("A")
			v.script(claiming, fault{reply: time.Second})
			c := env.start(t.Context(), v)
			synctest.Wait()
			env.store.publish(1)
			start := time.Now()
			c.ack(c.receive())
			require.Equal(t, time.Second, time.Since(start))
		})
	})
	t.Run("the queue is claimed when the next message becomes visible", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publishDelayed(1, time.Hour)
			c := env.subscribe()
			start := time.Now()
			c.ack(c.receive())
			require.Equal(t, time.Hour, time.Since(start))
			require.LessOrEqual(t, len(c.callsOf(claiming)), 3)
		})
	})
}

func TestPoll_AdaptsInterval(t *testing.T) {
	t.Run("an empty store is asked less and less often, from 10 ms to 1 s", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			c := env.subscribePolling()
			time.Sleep(time.Minute)
			pauses := c.pauses(claiming)
			requireGrowing(t, pauses, pollMin, pollMax)
			require.InDelta(t, 60, len(pauses), 20)
		})
	})
	t.Run("the store is asked often again after a message has come", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			c := env.subscribePolling()
			time.Sleep(time.Minute)
			env.store.publish(1)
			c.ack(c.receive())
			asked := len(c.pauses(claiming))
			time.Sleep(time.Minute)
			requireGrowing(t, c.pauses(claiming)[asked:], pollMin, pollMax)
		})
	})
	t.Run("the store is asked about as often as messages come", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			const gap = 3 * time.Millisecond
			c := env.subscribePolling()
			go func() {
				for range 200 {
					env.store.publish(1)
					time.Sleep(gap)
				}
			}()
			var waited time.Duration
			for n := range 200 {
				msg := c.receive()
				if n >= 100 {
					waited += time.Since(backend.DeliveryFromContext(msg.Context()).PublishedAt)
				}
				c.ack(msg)
			}
			require.LessOrEqual(t, waited/100, gap)
			calls := len(c.callsOf(claiming))
			time.Sleep(time.Minute)
			require.Less(t, len(c.callsOf(claiming))-calls, 100, "it becomes idle again")
		})
	})
	t.Run("the shortest interval is a nanosecond", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.PollMin, env.config.PollMax = 1, 1
			c := env.subscribe()
			time.Sleep(100 * time.Nanosecond)
			require.InDelta(t, 100, len(c.callsOf(claiming)), 1)
		})
	})
	t.Run("the store is asked at the time of its next message if that is sooner", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.PollMin, env.config.PollMax = pollMin, time.Hour
			c := env.subscribe()
			time.Sleep(24 * time.Hour)
			env.store.publishDelayed(1, time.Minute)
			start := time.Now()
			c.ack(c.receive())
			require.Equal(t, time.Minute, time.Since(start))
		})
	})
	t.Run("a next message much later does not make polls rarer", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.PollMin, env.config.PollMax = pollMin, pollMax
			c := env.subscribe()
			env.store.publishDelayed(1, 24*time.Hour)
			time.Sleep(time.Hour)
			require.InDelta(t, 3600, len(c.callsOf(claiming)), 360)
		})
	})
	t.Run("the store is asked at once for more when it gave all that was asked for", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.MaxInFlight = 1
			env.store.publish(100)
			c := env.subscribePolling()
			start := time.Now()
			for range 100 {
				c.ack(c.receive())
			}
			require.Zero(t, time.Since(start))
		})
	})
	t.Run("a store that promises more and does not give it is asked less and less often", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.PollMin, env.config.PollMax = pollMin, pollMax
			v := env.store.viewOf("A")
			v.claimsNothing.Store(true)
			v.inject(fault{reply: time.Millisecond}, claiming) // or time would stand still
			env.store.publish(1)
			c := env.start(t.Context(), v)
			time.Sleep(time.Second)
			require.LessOrEqual(t, len(c.callsOf(claiming)), 10)
			v.claimsNothing.Store(false)
			start := time.Now()
			c.ack(c.receive())
			require.LessOrEqual(t, time.Since(start), pollMax+pollMax/5)
		})
	})
}

func TestStore_WhenFailingIsRetriedWithBackoff(t *testing.T) {
	t.Run("a failing store is asked to claim less and less often, from 50 ms to 1 s, and recovers", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			v := env.store.viewOf("A")
			v.inject(fault{err: errStore}, claiming)
			env.store.publish(1)
			c := env.start(t.Context(), v)
			time.Sleep(time.Minute)
			pauses := c.pauses(claiming)
			requireGrowing(t, pauses, 50*time.Millisecond, time.Second)
			require.Less(t, len(pauses), 80)
			require.InDelta(t, 6.5, env.logs.count("cannot fetch messages"), 0.5, "at once, and after 1, 2, 4, 8, 16 and 32 seconds more")
			require.Zero(t, env.logs.count("receiving again"))

			c.clearFaults()
			healed := time.Now()
			c.ack(c.receive())
			require.LessOrEqual(t, time.Since(healed), 2*time.Second)
			require.Equal(t, 1, env.logs.count("receiving again"))
			c.script(claiming, fault{err: errStore})
			asked := len(c.pauses(claiming))
			env.store.publish(2)
			c.ack(c.receive())
			require.Less(t, c.pauses(claiming)[asked+1], 100*time.Millisecond, "the pauses begin anew")
			c.ack(c.receive())
		})
	})
	t.Run("a failing store is asked to store outcomes less and less often", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c := env.subscribe()
			c.inject(fault{err: errStore}, settling)
			c.nack(c.receive(), time.Hour)
			time.Sleep(lease)
			requireGrowing(t, c.pauses(settling), 50*time.Millisecond, time.Second)
			c.clearFaults()
			time.Sleep(2 * time.Second)
			require.NotEmpty(t, env.store.recorded(settled))
		})
	})
}

// subscribePolling starts a subscription to a store that does not report changes.
func (env *environment) subscribePolling() *consumer {
	env.t.Helper()
	env.config.PollMin, env.config.PollMax = pollMin, pollMax
	v := env.store.viewOf("A")
	v.polled = true
	return env.start(env.t.Context(), v)
}

// requireGrowing checks that pauses double from one length to another, each
// within 20 %, and stay there.
func requireGrowing(t *testing.T, pauses []time.Duration, from, to time.Duration) { //nolint:unparam // a range has two ends
	t.Helper()
	require.NotEmpty(t, pauses)
	for i, pause := range pauses {
		require.InDelta(t, from, pause, float64(from/5), "pause %d of %v", i, pauses)
		from = min(2*from, to)
	}
	require.Equal(t, to, from, "%v", pauses)
}
