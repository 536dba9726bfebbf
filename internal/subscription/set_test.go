package subscription_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/subscription"
)

func TestClosingASet(t *testing.T) {
	t.Run("ends all subscriptions, and every call waits for them", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.publish(1)
			one, two := r.subscribe(), r.subscribeAs("B", t.Context())
			msg := one.receive()
			start := time.Now()
			time.AfterFunc(time.Second, func() { one.ack(msg) })
			var closers sync.WaitGroup
			for range 10 {
				closers.Go(func() {
					r.set.Close()
					if took := time.Since(start); took != time.Second {
						t.Errorf("Close took %v", took)
					}
				})
			}
			closers.Wait()
			one.requireClosed()
			two.requireClosed()
			r.set.Close()
			require.Equal(t, time.Second, time.Since(start))
		})
	})
	t.Run("is for ever", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.set.Close()
			_, err := r.set.Start(t.Context(), r.store.viewOf("A"), r.config)
			require.ErrorIs(t, err, backend.ErrClosed)
		})
	})
	t.Run("may be done while subscriptions start: each of them runs and ends, or does not start", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			var starters sync.WaitGroup
			for range 20 {
				starters.Go(func() {
					messages, err := r.set.Start(t.Context(), r.store.viewOf("A"), r.config)
					if err == nil {
						<-messages
					}
				})
			}
			r.set.Close()
			starters.Wait()
		})
	})
	t.Run("lets a consumer drain for DrainTimeout, although it has not stopped", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.publish(1)
			c, _, _ := r.stoppable(r.store.viewOf("A"))
			msg := c.receive()
			start := time.Now()
			time.AfterFunc(drain-1, func() {
				if msg.Context().Err() != nil {
					t.Error("the context ended while draining")
				}
			})
			c.give(drain + grace)
			r.set.Close()
			require.Equal(t, drain+grace, time.Since(start))
			require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrInterrupted)
			c.requireClosed()
		})
	})
	t.Run("ends subscriptions whose contexts have ended, and whose messages nobody reads", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.publish(100)
			ctx, cancel := context.WithCancel(t.Context())
			r.subscribe()
			r.subscribeAs("B", ctx)
			synctest.Wait()
			cancel()
			start := time.Now()
			r.set.Close()
			require.Zero(t, time.Since(start))
			require.Len(t, r.store.read(settled), len(r.store.read(claimed)))
		})
	})
}

func TestClosingIsBounded(t *testing.T) {
	for name, f := range map[string]fault{"when the store hangs": {wait: hang}, "when the store fails": {err: errStore}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.store.publish(3)
				c := r.subscribe()
				hung, acked := c.receive(), c.receive()
				synctest.Wait()
				c.always(f, claiming, settling, extending)
				r.store.publish(1) // makes it claim
				c.ack(acked)
				synctest.Wait()
				c.give(drain + grace)
				start := time.Now()
				r.set.Close()
				require.LessOrEqual(t, time.Since(start), drain+grace+operation+lastFlush)
				require.Equal(t, 1, r.log.count("could not store what has become of messages"))
				require.Error(t, hung.Context().Err())
				c.requireClosed()
			})
		})
	}
}

func TestAMessageThatWasDeliveredTwiceIsOneOfThoseThatTheLastRecordCounts(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.store.publish(2)
		c := r.subscribe()
		c.always(fault{err: errStore}, settling)
		fail := func() {
			msg := c.receive()
			c.note(event{kind: answered, who: c.who, token: c.tokenOf(msg), action: subscription.DeadLetter})
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		}
		fail()
		fail()
		r.store.expire(1)
		fail()
		synctest.Wait()
		require.EqualValues(t, 3, r.config.Counters.Unstored.Load())
		c.give(drain + grace)
		r.set.Close()
		require.Equal(t, 1, r.log.count("could not store what has become of messages; they will be delivered again topic=t messages=2 "))
		c.requireClosed()
	})
}
