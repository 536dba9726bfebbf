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

func TestAnOutcomeThatTheStoreRefusesStopsNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 400
		r.config.MaxInFlight = n
		r.config.Linger = time.Millisecond
		r.store.odd = func(s subscription.Settlement) bool { return s.ID == 7 && s.Action == subscription.Ack }
		r.store.publish(n)
		c := r.subscribe()
		var odd *message.Message
		for range n {
			msg := c.receive()
			if msg.UUID == "7" {
				odd = msg
			}
			c.ack(msg)
		}
		time.Sleep(time.Second)
		require.Equal(t, []int64{7}, r.store.ids())
		require.Less(t, len(c.outcomes()), 30, "it is looked for by halves")
		require.Equal(t, 1, r.log.count("cannot be stored; it will be delivered again"))
		require.Zero(t, r.config.Counters.Unstored.Load())
		again := c.receive() // when its lease has ended
		require.Equal(t, odd.UUID, again.UUID)
		r.store.odd = nil
		c.ack(again)
	})
}

func TestARefusedOutcomeBecomesOneThatIsNot(t *testing.T) {
	for name, test := range map[string]struct {
		odd      func(subscription.Settlement) bool
		nack     func(*message.Message)
		action   subscription.Action
		told     int // failures
		failures int // of the next delivery
		logged   string
	}{
		"a nack records nothing": {
			odd:    func(s subscription.Settlement) bool { return !s.Bare },
			nack:   func(msg *message.Message) { backend.Nack(msg, backend.Redelivery{Failures: 3}) },
			action: subscription.Nack, told: 3, logged: "the failures of a message cannot be stored",
		},
		"a dead letter is stored with a plainer reason": {
			odd:    func(s subscription.Settlement) bool { return !s.Bare },
			nack:   func(msg *message.Message) { backend.DeadLetter(msg, backend.Letter{Topic: "dead"}) },
			action: subscription.DeadLetter,
		},
		"a dead letter comes back": {
			odd:    func(s subscription.Settlement) bool { return s.Action == subscription.DeadLetter },
			nack:   func(msg *message.Message) { backend.DeadLetter(msg, backend.Letter{Topic: "dead"}) },
			action: subscription.Nack, told: 1, failures: 1, logged: "a dead letter cannot be moved",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.store.odd = test.odd
				r.store.publish(2)
				c := r.subscribe()
				odd, other := c.receive(), c.receive()
				c.note(event{kind: answered, who: c.who, token: c.tokenOf(odd), action: test.action, failed: test.told})
				test.nack(odd)
				synctest.Wait()
				time.Sleep(time.Second)
				if test.action == subscription.Nack {
					again := c.receive()
					require.Equal(t, test.failures, backend.DeliveryFrom(again.Context()).Failures)
					r.store.odd = nil
					c.ack(again)
				}
				require.Equal(t, min(len(test.logged), 1), min(r.log.count(test.logged), 1))
				r.store.odd = nil
				c.ack(other)
			})
		})
	}
}

func TestDeadLettersThatWaitKeepNothingElseWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.store.publish(3)
		c := r.subscribe()
		letter, acked, nacked := c.receive(), c.receive(), c.receive()
		c.next(settling, fault{wait: 4 * time.Second})
		c.note(event{kind: answered, who: c.who, token: c.tokenOf(letter), action: subscription.DeadLetter})
		backend.DeadLetter(letter, backend.Letter{Topic: "dead"})
		synctest.Wait()
		c.ack(acked)
		c.nack(nacked, 0)
		synctest.Wait()
		require.Equal(t, []int64{1, 3}, r.store.ids())
		c.ack(c.receive())
		synctest.Wait()
		require.Equal(t, []int64{1}, r.store.ids())
		time.Sleep(5 * time.Second)
		require.Empty(t, r.store.ids())
	})
}
