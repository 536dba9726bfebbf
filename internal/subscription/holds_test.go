package subscription_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/subscription"
)

const holdFor = 50 * time.Millisecond

// holdingBubble runs f in virtual time with a consumer that has acked as many messages
// as it takes to hold the next ones.
func holdingBubble(t *testing.T, f func(t *testing.T, r *rig, c *consumer)) {
	t.Helper()
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor = holdFor
		c := r.subscribe()
		for range 10 {
			require.Empty(t, c.seen(holding), "nothing is held before messages have been acked")
			r.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		require.Empty(t, r.store.ids())
		f(t, r, c)
	})
}

func TestWhatIsAckedSoonIsNeverLeased(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		claims, settlements := len(c.seen(claiming)), len(c.seen(settling))
		r.store.publish(3)
		for range 3 {
			c.ack(c.receive())
		}
		synctest.Wait()
		require.Empty(t, r.store.ids(), "all of it is removed at once")
		require.Len(t, c.seen(finishing), 1)
		require.Len(t, c.seen(finishing)[0].tokens, 3)
		require.Empty(t, c.seen(finishing)[0].rest)
		require.Len(t, c.seen(claiming), claims)
		require.Len(t, c.seen(settling), settlements)
		require.EqualValues(t, 13, r.config.Counters.Acked.Load())
	})
}

func TestAHeldMessageIsWithOneConsumer(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		r.subscribeAs("B", t.Context()).requireNone()
		c.ack(msg)
	})
}

func TestWhatIsNotAckedSoonIsLeased(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(2)
		quick, slow := c.receive(), c.receive()
		c.ack(quick)
		time.Sleep(holdFor)
		synctest.Wait()
		require.Len(t, c.seen(finishing)[0].tokens, 1)
		require.Len(t, c.seen(finishing)[0].rest, 1)
		time.Sleep(10 * lease)
		require.NoError(t, slow.Context().Err(), "its lease is renewed")
		require.NotEmpty(t, c.seen(extending))
		c.ack(slow)
		time.Sleep(time.Second)
		require.Empty(t, r.store.ids())
	})
}

func TestAHeldMessageCanFail(t *testing.T) {
	for name, when := range map[string]time.Duration{"soon": time.Millisecond, "late": 2 * holdFor} {
		t.Run(name, func(t *testing.T) {
			holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
				r.store.publish(1)
				msg := c.receive()
				time.Sleep(when)
				start := time.Now()
				c.nack(msg, time.Minute)
				again := c.receive()
				require.GreaterOrEqual(t, time.Since(start), time.Minute)
				require.Less(t, time.Since(start), time.Minute+time.Second)
				require.Equal(t, 1, backend.DeliveryFromContext(again.Context()).Failures)
				require.Equal(t, 2, backend.DeliveryFromContext(again.Context()).Number)
				c.ack(again)
			})
		})
	}
}

// While an ack waits for the end of its hold, the end is under way.
func TestAnAckThatComesWhileItsHoldEndsIsStored(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		c.next(finishing, fault{reply: latency})
		time.Sleep(holdFor + latency/2)
		c.ack(msg)
		time.Sleep(time.Second)
		require.Empty(t, r.store.ids())
	})
}

// A message that ends its consumer's process must be counted before it can do so again.
func TestWhatWasDeliveredBeforeIsCountedBeforeItIsDeliveredAgain(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		c.nack(c.receive(), time.Second)
		again := c.receive()
		require.Equal(t, 2, backend.DeliveryFromContext(again.Context()).Number)
		finished := c.seen(finishing)
		require.Len(t, finished[len(finished)-1].rest, 1, "it was leased before it was handed over")
		c.ack(again)
	})
}

func TestABrokenHoldIsLost(t *testing.T) {
	for name, breakIt := range map[string]func(r *rig, c *consumer){
		"when its connection breaks":        func(r *rig, _ *consumer) { r.store.expire(11) },
		"when its end fails":                func(_ *rig, c *consumer) { c.next(finishing, fault{err: errStore}) },
		"when the reply to its end is lost": func(_ *rig, c *consumer) { c.next(finishing, fault{lost: errStore}) },
		"when there is no reply":            func(_ *rig, c *consumer) { c.next(finishing, fault{reply: hang}) },
	} {
		t.Run(name, func(t *testing.T) {
			holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
				r.store.publish(2)
				acked, open := c.receive(), c.receive()
				breakIt(r, c)
				c.ack(acked)
				requireLost(t, open)
				for again := c.receive(); ; again = c.receive() {
					c.ack(again)
					if again.UUID == open.UUID {
						break
					}
				}
				time.Sleep(2 * lease)
				require.Empty(t, r.store.ids())
				require.Equal(t, 1, r.log.count("those that were being handled are delivered again"))
			})
		})
	}
}

// Nobody has had the message since, so its ack counts.
func TestAnAckOutlivesItsHold(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		c.next(finishing, fault{err: errStore})
		c.next(holding, fault{err: errStore}, fault{err: errStore})
		c.ack(msg)
		time.Sleep(time.Second)
		require.Empty(t, r.store.ids())
	})
}

func TestWhatWasHeldAndNotReceivedIsGivenBack(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(5)
		msg := c.receive()
		closed := make(chan struct{})
		go func() { defer close(closed); r.set.Close() }()
		time.Sleep(holdFor)
		require.Len(t, r.store.ids(), 5)
		require.EqualValues(t, 4, r.config.Counters.Released.Load())
		c.ack(msg)
		<-closed
		require.Len(t, r.store.ids(), 4)
		for _, id := range r.store.ids() {
			require.Zero(t, r.store.numberOf(id), "it was not delivered")
		}
	})
}

func TestSlowHandlersGetLeases(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		for range 30 {
			r.store.publish(1)
			msg := c.receive()
			time.Sleep(2 * holdFor)
			c.ack(msg)
		}
		require.Less(t, len(c.seen(holding)), 10)
	})
}

func TestMessagesAreLeasedWhereTheyCannotBeHeld(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		c.refuses.Store(true)
		seen := len(c.seen(holding))
		r.store.publish(1)
		c.ack(c.receive())
		require.Len(t, c.seen(holding), seen)
	})
}

func TestWhoNeedsALeaseGetsOne(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		token := leased(t, msg)
		require.Equal(t, 1, token.Number)
		require.Empty(t, r.store.settle("beside", ackOf(token)).Lost)
		c.note(event{kind: answered, who: c.who, token: token})
		msg.Ack()

		seen := len(c.seen(holding))
		for range 20 {
			r.store.publish(1)
			msg := c.receive()
			require.Equal(t, 1, leased(t, msg).Number)
			c.ack(msg)
		}
		require.LessOrEqual(t, len(c.seen(holding)), seen+1, "from now on there are leases only")
	})
}

func leased(t *testing.T, msg *message.Message) subscription.Token {
	t.Helper()
	keeper, ok := backend.DeliveryFromContext(msg.Context()).Parker.(subscription.Keeper)
	require.True(t, ok)
	token, err := keeper.Leased(msg.Context())
	require.NoError(t, err)
	return token
}

func TestALostMessageHasNoLease(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		r.store.expire(11)
		requireLost(t, msg)
		_, err := backend.DeliveryFromContext(msg.Context()).Parker.(subscription.Keeper).Leased(context.Background())
		require.ErrorIs(t, err, backend.ErrLeaseLost)
		c.ack(c.receive())
	})
}

func TestNothingIsHeldWhereOrderOrStoredAcksMatter(t *testing.T) {
	for name, set := range map[string]func(*subscription.Config){
		"one at a time":    func(c *subscription.Config) { c.MaxInFlight = 1 },
		"acks are awaited": func(c *subscription.Config) { c.SyncAck = true },
		"not wanted":       func(c *subscription.Config) { c.HoldFor = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.config.HoldFor = holdFor
				set(&r.config)
				c := r.subscribe()
				for i := range 50 {
					r.store.publish(1)
					msg := c.receive()
					require.Equal(t, fmt.Sprint(i+1), msg.UUID)
					c.ack(msg)
				}
				require.Empty(t, c.seen(holding))
			})
		})
	}
}

// The messages of one hold are handled while the next one is fetched, and no more.
func TestTwoHoldsAtATime(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		before := len(c.seen(holding)) - len(c.seen(finishing))
		r.store.publish(200)
		for range 200 {
			msg := c.receive()
			require.LessOrEqual(t, len(c.seen(holding))-before-len(c.seen(finishing)), 2)
			c.ack(msg)
		}
		time.Sleep(time.Second)
		require.Empty(t, r.store.ids())
		require.Greater(t, len(c.seen(holding)), 10)
	})
}

func TestASubscriptionEndsAfterItsHolds(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		c.ack(c.receive())
		c.next(finishing, fault{wait: latency})
		r.set.Close()
		c.requireClosed()
		require.Empty(t, r.store.ids())
	})
}

func TestAfterALostHoldMessagesAreLeasedForAWhile(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		c.next(finishing, fault{err: errStore})
		c.ack(c.receive())
		time.Sleep(time.Second)
		require.Empty(t, r.store.ids())
		seen := len(c.seen(holding))
		for range 8 {
			r.store.publish(1)
			c.ack(c.receive())
			time.Sleep(time.Second)
		}
		require.Len(t, c.seen(holding), seen)
		time.Sleep(3 * time.Second)
		for range 2 {
			r.store.publish(1)
			c.ack(c.receive())
		}
		require.Greater(t, len(c.seen(holding)), seen)
	})
}
