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
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

const lockFor = 50 * time.Millisecond

// lockingBubble runs f in virtual time with a consumer that has acked as many messages
// as it takes to lock the next ones.
func lockingBubble(t *testing.T, f func(t *testing.T, env *environment, c *consumer)) {
	t.Helper()
	bubble(t, func(t *testing.T, env *environment) {
		env.config.LockFor = lockFor
		c := env.subscribe()
		for range 10 {
			require.Empty(t, c.callsOf(locking), "nothing is locked before messages have been acked")
			env.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		require.Empty(t, env.store.ids())
		f(t, env, c)
	})
}

func TestLockedBatch_LeasesNothingAckedSoon(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		claims, settlements := len(c.callsOf(claiming)), len(c.callsOf(settling))
		env.store.publish(3)
		for range 3 {
			c.ack(c.receive())
		}
		synctest.Wait()
		require.Empty(t, env.store.ids(), "all of it is removed at once")
		require.Len(t, c.callsOf(finishing), 1)
		require.Len(t, c.callsOf(finishing)[0].tokens, 3)
		require.Empty(t, c.callsOf(finishing)[0].rest)
		require.Len(t, c.callsOf(claiming), claims)
		require.Len(t, c.callsOf(settling), settlements)
		require.EqualValues(t, 13, env.config.Counters.Acked.Load())
	})
}

func TestLockedMessage_HasOneConsumer(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		env.subscribeAs("B", t.Context()).requireNone()
		c.ack(msg)
	})
}

func TestLockedBatch_LeasesMessagesNotAckedSoon(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(2)
		quick, slow := c.receive(), c.receive()
		c.ack(quick)
		time.Sleep(lockFor)
		synctest.Wait()
		require.Len(t, c.callsOf(finishing)[0].tokens, 1)
		require.Len(t, c.callsOf(finishing)[0].rest, 1)
		time.Sleep(10 * lease)
		require.NoError(t, slow.Context().Err(), "its lease is extended")
		require.NotEmpty(t, c.callsOf(extending))
		c.ack(slow)
		time.Sleep(time.Second)
		require.Empty(t, env.store.ids())
	})
}

func TestLockedMessage_CanBeNacked(t *testing.T) {
	for name, when := range map[string]time.Duration{
		"a nack within the lock returns the message": time.Millisecond,
		"a nack after the lock returns the message":  2 * lockFor,
	} {
		t.Run(name, func(t *testing.T) {
			lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
				env.store.publish(1)
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

// While an ack waits for the end of its lock, the end is under way.
func TestAck_WhileLockedBatchEndsIsStored(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		c.script(finishing, fault{reply: latency})
		time.Sleep(lockFor + latency/2)
		c.ack(msg)
		time.Sleep(time.Second)
		require.Empty(t, env.store.ids())
	})
}

// A message that ends its consumer's process must be counted before it can do so again.
func TestRedelivery_IsLeasedBeforeDelivery(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		c.nack(c.receive(), time.Second)
		again := c.receive()
		require.Equal(t, 2, backend.DeliveryFromContext(again.Context()).Number)
		finished := c.callsOf(finishing)
		require.Len(t, finished[len(finished)-1].rest, 1, "it was leased before it was handed over")
		c.ack(again)
	})
}

func TestLockedBatch_WhenBrokenIsLost(t *testing.T) {
	for name, breakIt := range map[string]func(env *environment, c *consumer){
		"a connection that breaks loses the batch":   func(env *environment, _ *consumer) { env.store.expire(11) },
		"an end that fails loses the batch":          func(_ *environment, c *consumer) { c.script(finishing, fault{err: errStore}) },
		"a lost reply to the end loses the batch":    func(_ *environment, c *consumer) { c.script(finishing, fault{lost: errStore}) },
		"a missing reply to the end loses the batch": func(_ *environment, c *consumer) { c.script(finishing, fault{reply: hang}) },
	} {
		t.Run(name, func(t *testing.T) {
			lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
				env.store.publish(2)
				acked, open := c.receive(), c.receive()
				breakIt(env, c)
				c.ack(acked)
				requireLost(t, open)
				for again := c.receive(); ; again = c.receive() {
					c.ack(again)
					if again.UUID == open.UUID {
						break
					}
				}
				time.Sleep(2 * lease)
				require.Empty(t, env.store.ids())
				require.Equal(t, 1, env.logs.count("messages that were being handled are delivered again"))
				require.Zero(t, env.logs.count("messages=0"))
			})
		})
	}
}

// No other consumer has had the message since, so its ack counts.
func TestAck_OutlivesLockedBatch(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		c.script(finishing, fault{err: errStore})
		c.script(locking, fault{err: errStore}, fault{err: errStore})
		c.ack(msg)
		time.Sleep(time.Second)
		require.Empty(t, env.store.ids())
		require.Equal(t, 1, env.logs.count("cannot store outcomes; will try again"))
		require.Zero(t, env.logs.count("delivered again"), "no message was being handled")
	})
}

func TestLockedBatch_ReleasesUndeliveredMessages(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(5)
		msg := c.receive()
		closed := make(chan struct{})
		go func() { defer close(closed); env.subscriptions.Close() }()
		time.Sleep(lockFor)
		require.Len(t, env.store.ids(), 5)
		require.EqualValues(t, 4, env.config.Counters.Released.Load())
		c.ack(msg)
		<-closed
		require.Len(t, env.store.ids(), 4)
		for _, id := range env.store.ids() {
			require.Zero(t, env.store.numberOf(id), "it was not delivered")
		}
	})
}

func TestLocking_StopsForSlowHandlers(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		for range 30 {
			env.store.publish(1)
			msg := c.receive()
			time.Sleep(2 * lockFor)
			c.ack(msg)
		}
		require.Less(t, len(c.callsOf(locking)), 10)
	})
}

func TestLease_IsUsedWhereLockingIsRefused(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		c.locksNothing.Store(true)
		seen := len(c.callsOf(locking))
		env.store.publish(1)
		c.ack(c.receive())
		require.Len(t, c.callsOf(locking), seen)
	})
}

func TestLeaser_TurnsLockIntoLease(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		token := ensureLease(t, msg)
		require.Equal(t, 1, token.Number)
		require.Empty(t, env.store.settle("transaction", ackOf(token)).Lost)
		c.record(event{kind: answered, subscriber: c.subscriber, token: token})
		msg.Ack()

		seen := len(c.callsOf(locking))
		for range 20 {
			env.store.publish(1)
			msg := c.receive()
			require.Equal(t, 1, ensureLease(t, msg).Number)
			c.ack(msg)
		}
		require.LessOrEqual(t, len(c.callsOf(locking)), seen+1, "from now on there are leases only")
	})
}

func ensureLease(t *testing.T, msg *message.Message) subscription.Token {
	t.Helper()
	leaser, ok := backend.DeliveryFromContext(msg.Context()).Parker.(subscription.Leaser)
	require.True(t, ok)
	token, err := leaser.EnsureLease(msg.Context())
	require.NoError(t, err)
	return token
}

func TestLeaser_FailsForLostMessage(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		msg := c.receive()
		env.store.expire(11)
		requireLost(t, msg)
		_, err := backend.DeliveryFromContext(msg.Context()).Parker.(subscription.Leaser).EnsureLease(context.Background())
		require.ErrorIs(t, err, backend.ErrLeaseLost)
		c.ack(c.receive())
	})
}

func TestLocking_IsOffForOrderAndSyncAck(t *testing.T) {
	for name, set := range map[string]func(*subscription.Config){
		"with one message in flight nothing is locked": func(c *subscription.Config) { c.MaxInFlight = 1 },
		"with SyncAck nothing is locked":               func(c *subscription.Config) { c.SyncAck = true },
		"without LockFor nothing is locked":            func(c *subscription.Config) { c.LockFor = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.LockFor = lockFor
				set(&env.config)
				c := env.subscribe()
				for i := range 50 {
					env.store.publish(1)
					msg := c.receive()
					require.Equal(t, fmt.Sprint(i+1), msg.UUID)
					c.ack(msg)
				}
				require.Empty(t, c.callsOf(locking))
			})
		})
	}
}

// The messages of one batch are handled while the next one is fetched, and no more.
func TestLockedBatch_RunsTwoAtMost(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		before := len(c.callsOf(locking)) - len(c.callsOf(finishing))
		env.store.publish(200)
		for range 200 {
			msg := c.receive()
			require.LessOrEqual(t, len(c.callsOf(locking))-before-len(c.callsOf(finishing)), 2)
			c.ack(msg)
		}
		time.Sleep(time.Second)
		require.Empty(t, env.store.ids())
		require.Greater(t, len(c.callsOf(locking)), 10)
	})
}

func TestSubscription_EndsAfterLockedBatches(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		c.ack(c.receive())
		c.script(finishing, fault{wait: latency})
		env.subscriptions.Close()
		c.requireClosed()
		require.Empty(t, env.store.ids())
	})
}

func TestLockedBatch_LossPausesLocking(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(1)
		c.script(finishing, fault{err: errStore})
		c.ack(c.receive())
		time.Sleep(time.Second)
		require.Empty(t, env.store.ids())
		seen := len(c.callsOf(locking))
		for range 8 {
			env.store.publish(1)
			c.ack(c.receive())
			time.Sleep(time.Second)
		}
		require.Len(t, c.callsOf(locking), seen)
		time.Sleep(3 * time.Second)
		for range 2 {
			env.store.publish(1)
			c.ack(c.receive())
		}
		require.Greater(t, len(c.callsOf(locking)), seen)
	})
}
