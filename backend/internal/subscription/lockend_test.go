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

// The others may be settled soon. A retry delay does not notice the wait.
func TestLockedBatch_ContinuesAfterOneOutcome(t *testing.T) {
	for name, answer := range map[string]func(c *consumer, msg *message.Message){
		"a batch goes on after an ack": func(c *consumer, msg *message.Message) { c.ack(msg) },
		"a batch goes on after a nack": func(c *consumer, msg *message.Message) { c.nack(msg, time.Minute) },
		"a batch goes on after a dead letter": func(c *consumer, msg *message.Message) {
			c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.DeadLetter})
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
				env.store.publish(2)
				msg, open := c.receive(), c.receive()
				answer(c, msg)
				time.Sleep(lockFor - 1)
				require.Empty(t, c.callsOf(finishing))
				c.ack(open)
				synctest.Wait()
				require.Len(t, c.callsOf(finishing), 1, "all are settled")
			})
		})
	}
}

func TestLockedBatch_ThirdWaitsForFirst(t *testing.T) {
	lockingBubble(t, func(_ *testing.T, env *environment, c *consumer) {
		var open []*message.Message
		for range 2 {
			env.store.publish(2)
			open = append(open, c.receive(), c.receive())
			time.Sleep(lockFor / 4)
		}
		env.store.publish(2)
		c.requireNone()
		time.Sleep(lockFor/2 - 1)
		c.requireNone()
		time.Sleep(time.Nanosecond)
		open = append(open, c.receive(), c.receive())
		synctest.Wait()
		for _, msg := range open {
			c.ack(msg)
		}
	})
}

// The message would be leased first, and delivered again.
// One claim does not carry all of them.
func TestFetch_WaitsForManyAcksAfterLoss(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 1200
		env.config.LockFor, env.config.MaxInFlight = longestLock, n
		env.store.publish(n)
		c := env.subscribe()
		var all []*message.Message
		for range n {
			all = append(all, c.receive())
		}
		c.script(finishing, fault{err: errStore})
		c.script(locking, fault{err: errStore}, fault{err: errStore}, fault{err: errStore}) // until the subscription knows of the loss
		c.script(settling, fault{wait: latency})
		for _, msg := range all {
			c.ack(msg)
		}
		synctest.Wait()
		for id := range int64(n) {
			env.store.lockFor(id+1, 4*time.Second)
		}
		time.Sleep(8 * time.Second)
		c.requireNone()
		require.Empty(t, env.store.ids())
		require.Less(t, len(c.settlementCalls()), 400, "each try is a call")
	})
}

func TestFetch_WaitsForPendingAckAfterLoss(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		c.script(finishing, fault{err: errStore})
		c.script(locking, fault{err: errStore}, fault{err: errStore}) // until the subscription knows of the loss
		c.script(settling, fault{wait: latency})
		c.ack(msg)
		time.Sleep(time.Second)
		c.requireNone()
		require.Empty(t, env.store.ids())
	})
}
