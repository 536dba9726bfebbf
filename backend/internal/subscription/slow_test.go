package subscription_test

import (
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// slowFor has the store take too long for the outcomes of a message, and for all that come with them.
func (v *storeView) slowFor(id int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faultOf = func(c call) fault {
		if slices.ContainsFunc(c.settle, func(s subscription.Settlement) bool { return s.ID == id }) {
			return fault{wait: hang}
		}
		return fault{}
	}
}

// A trigger may sleep. Without an answer, it is not known which of the settlements was slow.
func TestAnOutcomeThatTheStoreIsTooSlowForStopsNoOtherAndIsNotForgotten(t *testing.T) {
	nack := func(c *consumer, msg *message.Message) { c.nack(msg, time.Hour) }
	letter := func(c *consumer, msg *message.Message) {
		c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.DeadLetter})
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		synctest.Wait()
	}
	for name, test := range map[string]struct {
		n           int
		slow, other func(c *consumer, msg *message.Message)
		again       bool // it is delivered again when its lease ends
	}{
		"an ack":        {n: 400, slow: (*consumer).ack, other: (*consumer).ack},
		"a nack":        {n: 400, slow: nack, other: (*consumer).ack, again: true},
		"a dead letter": {n: 8, slow: letter, other: letter},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.MaxInFlight, env.config.Linger = test.n, time.Millisecond
				env.store.publish(test.n)
				c := env.subscribe()
				c.slowFor(7)
				for range test.n {
					if msg := c.receive(); c.tokenOf(msg).ID == 7 {
						test.slow(c, msg)
					} else {
						test.other(c, msg)
					}
				}
				time.Sleep(time.Duration(bits.Len(uint(test.n))) * (operation + time.Second))
				require.Equal(t, []int64{7}, env.store.ids(), "it is looked for by halves")
				c.clearFaults()
				if test.again {
					c.ack(c.receive())
				}
				time.Sleep(3 * operation)
				c.requireNone()
				require.Empty(t, env.store.ids())
			})
		})
	}
}

func TestWhatComesAfterAnAckThatTheStoreIsTooSlowForWaitsForOneTry(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.Linger = time.Millisecond
		env.store.publish(1)
		c := env.subscribe()
		c.slowFor(1)
		c.ack(c.receive())
		for range 20 {
			env.store.publish(1)
			c.ack(c.receive())
			time.Sleep(2*operation + time.Second)
			require.Equal(t, []int64{1}, env.store.ids())
		}
		c.requireNone()
		require.Equal(t, 1, env.logs.count("it cannot be stored that messages are done"))
		require.LessOrEqual(t, env.logs.count("cannot store which messages are done"), 1, "while it was looked for")
		c.clearFaults()
		time.Sleep(3 * operation)
		require.Empty(t, env.store.ids())
	})
}

func TestAfterAnOutageWithoutAnyAnswerAllOutcomesAreStoredSoon(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 2000
		env.config.MaxInFlight, env.config.Linger, env.config.Lease = n, time.Millisecond, time.Hour
		env.store.publish(n)
		c := env.subscribe()
		for id := range n {
			if msg := c.receive(); id == 0 {
				c.inject(fault{wait: hang}, claiming, settling, extending)
				c.ack(msg)
			} else if id%10 == 0 {
				c.nack(msg, time.Hour)
			} else {
				c.ack(msg)
			}
		}
		time.Sleep(10 * time.Minute)
		require.Len(t, env.store.ids(), n)
		c.clearFaults()
		time.Sleep(5 * operation)
		require.Len(t, env.store.ids(), n/10-1, "those are left that were nacked")
		require.Less(t, env.logs.count("it cannot be stored"), 100, "that is one each 6 seconds")
		for range n/10 - 1 {
			c.ack(c.receive())
		}
	})
}
