package subscription_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func TestClose_EndsSubscriptions(t *testing.T) {
	t.Run("Close ends all subscriptions, and every call of it waits for them", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			one, two := env.subscribe(), env.subscribeAs("B", t.Context())
			msg := one.receive()
			start := time.Now()
			time.AfterFunc(time.Second, func() { one.ack(msg) })
			var closers sync.WaitGroup
			for range 10 {
				closers.Go(func() {
					env.subscriptions.Close()
					if took := time.Since(start); took != time.Second {
						t.Errorf("Close took %v", took)
					}
				})
			}
			closers.Wait()
			one.requireClosed()
			two.requireClosed()
			env.subscriptions.Close()
			require.Equal(t, time.Second, time.Since(start))
		})
	})
	t.Run("no subscription starts after Close", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.subscriptions.Close()
			_, err := env.subscriptions.Start(t.Context(), env.store.viewOf("A"), env.config)
			require.ErrorIs(t, err, backend.ErrClosed)
		})
	})
	t.Run("a subscription that starts during Close runs and ends, or does not start", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			var starters sync.WaitGroup
			for range 20 {
				starters.Go(func() {
					messages, err := env.subscriptions.Start(t.Context(), env.store.viewOf("A"), env.config)
					if err == nil {
						<-messages
					}
				})
			}
			env.subscriptions.Close()
			starters.Wait()
		})
	})
	t.Run("Close lets a consumer drain for DrainTimeout, although it has not stopped", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(1)
			c, _, _ := env.subscribeStoppable(env.store.viewOf("A"))
			msg := c.receive()
			start := time.Now()
			time.AfterFunc(drain-1, func() {
				if msg.Context().Err() != nil {
					t.Error("the context ended while draining")
				}
			})
			c.recordPatience(drain + grace)
			env.subscriptions.Close()
			require.Equal(t, drain+grace, time.Since(start))
			require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrInterrupted)
			c.requireClosed()
		})
	})
	t.Run("Close ends subscriptions whose contexts have ended, and whose messages are not read", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.publish(100)
			ctx, cancel := context.WithCancel(t.Context())
			env.subscribe()
			env.subscribeAs("B", ctx)
			synctest.Wait()
			cancel()
			start := time.Now()
			env.subscriptions.Close()
			require.Zero(t, time.Since(start))
			require.Len(t, env.store.recorded(settled), len(env.store.recorded(claimed)))
		})
	})
}

func TestClose_IsBounded(t *testing.T) {
	for name, f := range map[string]fault{
		"Close returns although the store hangs": {wait: hang},
		"Close returns although the store fails": {err: errStore},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.store.publish(3)
				c := env.subscribe()
				hung, acked := c.receive(), c.receive()
				synctest.Wait()
				c.inject(f, claiming, settling, extending)
				env.store.publish(1) // makes it claim
				c.ack(acked)
				synctest.Wait()
				c.recordPatience(drain + grace)
				start := time.Now()
				env.subscriptions.Close()
				require.LessOrEqual(t, time.Since(start), drain+grace+operation+lastFlush)
				require.Equal(t, 1, env.logs.count("could not store what has become of messages"))
				require.Error(t, hung.Context().Err())
				c.requireClosed()
			})
		})
	}
}

func TestLog_LastRecordCountsMessageOnce(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(2)
		c := env.subscribe()
		c.inject(fault{err: errStore}, settling)
		fail := func() {
			msg := c.receive()
			c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.DeadLetter})
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		}
		fail()
		fail()
		env.store.expire(1)
		fail()
		synctest.Wait()
		require.EqualValues(t, 3, env.config.Counters.Unstored.Load())
		c.recordPatience(drain + grace)
		env.subscriptions.Close()
		require.Equal(t, 1, env.logs.count("could not store what has become of messages; they will be delivered again topic=t messages=2 "))
		c.requireClosed()
	})
}
