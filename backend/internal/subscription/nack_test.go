package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// nackWithoutDisposition nacks as a handler of Watermill does. The
// message shall come back after delay.
func (c *consumer) nackWithoutDisposition(msg *message.Message, delay time.Duration) {
	failed := backend.DeliveryFromContext(msg.Context()).Failures + 1
	c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.Nack, delay: delay, failures: failed})
	msg.Nack()
}

func TestNack_WaitsAsConfigured(t *testing.T) {
	for name, test := range map[string]struct {
		first, most time.Duration
		waits       []time.Duration
	}{
		"a nack without a delay brings the message back at once":           {waits: []time.Duration{0, 0, 0}},
		"a nack brings the message back after NackDelay":                   {first: time.Second, waits: []time.Duration{time.Second, time.Second}},
		"each nack waits twice as long as the one before, up to the limit": {time.Second, 5 * time.Second, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}},
		"no nack waits longer than the limit":                              {time.Second, time.Second, []time.Duration{1e9, 1e9}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.NackDelay, env.config.MaxNackDelay = test.first, test.most
				env.store.publish(1)
				c := env.subscribe()
				msg := c.receive()
				for i, wait := range test.waits {
					nacked := time.Now()
					c.nackWithoutDisposition(msg, wait)
					msg = c.receive()
					require.Equal(t, wait, time.Since(nacked))
					require.Equal(t, i+1, backend.DeliveryFromContext(msg.Context()).Failures)
				}
				c.ack(msg)
			})
		})
	}
	t.Run("the metadata of the message say how long a nack waits", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.config.NackDelay = time.Second
			env.store.publish(1)
			c := env.subscribe()
			msg := c.receive()
			nacked := time.Now()
			backend.SetDelay(msg, 7*time.Second)
			c.nackWithoutDisposition(msg, 7*time.Second)
			msg = c.receive()
			require.Equal(t, 7*time.Second, time.Since(nacked))
			c.ack(msg)
		})
	})
}

func TestDeadLetter_WhenUnmovableIsFailure(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.NackDelay = 3 * time.Second
		env.store.publish(1)
		c := env.subscribe()
		msg := c.receive()
		c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.DeadLetter, delay: 3 * time.Second})
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		synctest.Wait()
		var settled []subscription.Settlement
		for _, call := range c.callsOf(settling) {
			settled = append(settled, call.settle...)
		}
		for _, call := range c.callsOf(claiming) {
			settled = append(settled, call.settle...)
		}
		require.Len(t, settled, 1)
		require.Equal(t, subscription.DeadLetter, settled[0].Action)
		require.Equal(t, backend.Redelivery{Delay: 3 * time.Second, Failures: 1}, settled[0].Disposition.Fallback)
	})
}

func TestNack_CountsAsReleasedUnlessItCountsFailure(t *testing.T) {
	for name, test := range map[string]struct {
		redelivery       backend.Redelivery
		nacked, released int64
	}{
		"a failure is nacked":                       {backend.Redelivery{Delay: time.Hour, Failures: 1}, 1, 0},
		"a snooze is released":                      {backend.Redelivery{Delay: time.Hour, Uncounted: true}, 0, 1},
		"an unknown event is released":              {backend.Redelivery{Delay: time.Hour, Uncounted: true, UnknownSince: time.Unix(1, 0)}, 0, 1},
		"an event that was interrupted is released": {backend.Redelivery{InPlace: true}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.store.publish(1)
				c := env.subscribe()
				msg := c.receive()
				c.record(event{
					kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg),
					action: subscription.Nack, delay: test.redelivery.Delay, failures: test.redelivery.Failures,
				})
				backend.Nack(msg, test.redelivery)
				time.Sleep(time.Second)
				require.Equal(t, test.nacked, env.config.Counters.Nacked.Load())
				require.Equal(t, test.released, env.config.Counters.Released.Load())
			})
		})
	}
}
