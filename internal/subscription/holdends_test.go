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

func TestAHoldEndsEarly(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(c *consumer, msg *message.Message)
		early  bool
	}{
		"when one of its messages is nacked": {
			answer: func(c *consumer, msg *message.Message) { c.nack(msg, time.Minute) },
			early:  true,
		},
		"when one of them becomes a dead letter": {
			answer: func(c *consumer, msg *message.Message) {
				c.note(event{kind: answered, who: c.who, token: c.tokenOf(msg), action: subscription.DeadLetter})
				backend.DeadLetter(msg, backend.Letter{Topic: "dead"})
			},
			early: true,
		},
		"but not when one of them is acked: the others may be soon": {
			answer: func(c *consumer, msg *message.Message) { c.ack(msg) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
				r.store.publish(2)
				msg, open := c.receive(), c.receive()
				test.answer(c, msg)
				time.Sleep(holdFor - 1)
				require.Equal(t, test.early, len(c.seen(finishing)) == 1)
				c.ack(open)
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
