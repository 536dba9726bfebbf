package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/subscription"
)

// The others may be settled soon. A retry delay does not notice the wait.
func TestAHoldGoesOnWhenOneOfItsMessagesIsSettled(t *testing.T) {
	for name, answer := range map[string]func(c *consumer, msg *message.Message){
		"as done":   func(c *consumer, msg *message.Message) { c.ack(msg) },
		"as failed": func(c *consumer, msg *message.Message) { c.nack(msg, time.Minute) },
		"as a dead letter": func(c *consumer, msg *message.Message) {
			c.note(event{kind: answered, who: c.who, token: c.tokenOf(msg), action: subscription.DeadLetter})
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
				r.store.publish(2)
				msg, open := c.receive(), c.receive()
				answer(c, msg)
				time.Sleep(holdFor - 1)
				require.Empty(t, c.seen(finishing))
				c.ack(open)
				synctest.Wait()
				require.Len(t, c.seen(finishing), 1, "all are settled")
			})
		})
	}
}

func TestAThirdHoldWaitsForTheFirst(t *testing.T) {
	holdingBubble(t, func(_ *testing.T, r *rig, c *consumer) {
		var open []*message.Message
		for range 2 {
			r.store.publish(2)
			open = append(open, c.receive(), c.receive())
			time.Sleep(holdFor / 4)
		}
		r.store.publish(2)
		c.requireNone()
		time.Sleep(holdFor/2 - 1)
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
func TestNothingIsFetchedWhileManyAcksOfALostHoldWaitForLocks(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 1200
		r.config.HoldFor, r.config.MaxInFlight = longestHold, n
		r.store.publish(n)
		c := r.subscribe()
		var all []*message.Message
		for range n {
			all = append(all, c.receive())
		}
		c.next(finishing, fault{err: errStore})
		c.next(holding, fault{err: errStore}, fault{err: errStore}, fault{err: errStore}) // until the subscription knows of the loss
		c.next(settling, fault{wait: latency})
		for _, msg := range all {
			c.ack(msg)
		}
		synctest.Wait()
		for id := range int64(n) {
			r.store.lockFor(id+1, 4*time.Second)
		}
		time.Sleep(8 * time.Second)
		c.requireNone()
		require.Empty(t, r.store.ids())
		require.Less(t, len(c.outcomes()), 400, "each try is a call")
	})
}

func TestNothingIsFetchedWhileTheAckOfALostHoldIsUnderWay(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		c.next(finishing, fault{err: errStore})
		c.next(holding, fault{err: errStore}, fault{err: errStore}) // until the subscription knows of the loss
		c.next(settling, fault{wait: latency})
		c.ack(msg)
		time.Sleep(time.Second)
		c.requireNone()
		require.Empty(t, r.store.ids())
	})
}
