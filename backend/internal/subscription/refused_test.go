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

func TestOutcome_WhenRefusedStopsNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 400
		env.config.MaxInFlight = n
		env.config.Linger = time.Millisecond
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == 7 && s.Action == subscription.Ack })
		env.store.publish(n)
		c := env.subscribe()
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		require.Equal(t, []int64{7}, env.store.ids())
		require.Less(t, len(c.settlementCalls()), 30, "it is looked for by halves")
	})
}

// An example is a deadlock, which may as well be the fault of a trigger and one settlement.
func TestOutcome_RefusedForNowStopsNoOther(t *testing.T) {
	for name, test := range map[string]struct {
		trouble  time.Duration
		failures int // that are stored
	}{
		"an outcome that is accepted soon is stored as it is":              {2 * time.Second, 3},
		"an outcome that is refused for 20 s is stored without its record": {20 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				const n = 400
				env.config.MaxInFlight, env.config.Linger = n, time.Millisecond
				env.store.transient.Store(true)
				env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == 7 && !s.Bare })
				env.store.publish(n)
				c := env.subscribe()
				for range n {
					msg := c.receive()
					if c.tokenOf(msg).ID != 7 {
						c.ack(msg)
						continue
					}
					c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.Nack, failures: 3})
					backend.Nack(msg, backend.Redelivery{Failures: 3})
				}
				time.Sleep(time.Second)
				require.Equal(t, []int64{7}, env.store.ids())
				require.Less(t, len(c.settlementCalls()), 40, "it is looked for by halves")
				time.Sleep(test.trouble - time.Second)
				env.store.refuseIf(nil)
				again := c.receive()
				require.Equal(t, test.failures, backend.DeliveryFromContext(again.Context()).Failures)
				require.Less(t, len(c.settlementCalls()), 50, "each try is a call")
				c.ack(again)
			})
		})
	}
}

func TestAck_WhenRefusedIsNotHandledAgain(t *testing.T) {
	for name, sync := range map[string]bool{
		"a refused ack is not handled again":              false,
		"with SyncAck a refused ack is not handled again": true,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.SyncAck, env.config.MaxInFlight = sync, 1
				env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == 1 && s.Action == subscription.Ack })
				env.store.publish(2)
				c := env.subscribe()
				c.ack(c.receive())
				c.ack(c.receive())
				time.Sleep(20 * lease)
				require.Equal(t, []int64{1}, env.store.ids())
				select {
				case again := <-c.messages:
					require.Fail(t, "it is delivered again", again.UUID)
				default:
				}
				require.Less(t, len(c.settlementCalls()), 200, "each try is a call")
				require.Equal(t, 1, env.logs.count("acks are refused or slow"))
				require.EqualValues(t, 1, env.config.Counters.Unstored.Load())
				require.Zero(t, env.config.Counters.InFlight.Load())
				require.Zero(t, env.logs.count("acks are stored again"))
				env.store.refuseIf(nil)
				time.Sleep(6 * time.Second)
				require.Empty(t, env.store.ids())
				require.Equal(t, 1, env.logs.count("acks are stored again"))
			})
		})
	}
	t.Run("a refused ack whose lease is lost is handled again", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.refuseIf(func(s subscription.Settlement) bool { return s.Number == 1 })
			env.store.publish(1)
			c := env.subscribe()
			c.ack(c.receive())
			time.Sleep(lease)
			env.store.expire(1)
			c.ack(c.receive())
			time.Sleep(lease)
			require.Empty(t, env.store.ids())
			require.Zero(t, env.config.Counters.Unstored.Load())
			extended := len(c.callsOf(extending))
			time.Sleep(10 * lease)
			require.Len(t, c.callsOf(extending), extended, "nothing is extended any more")
		})
	})
	t.Run("a refused ack does not delay the end of its subscription", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			env.store.refuseIf(func(s subscription.Settlement) bool { return s.Action == subscription.Ack })
			env.store.publish(1)
			c := env.subscribe()
			c.ack(c.receive())
			time.Sleep(lease)
			start := time.Now()
			env.subscriptions.Close()
			require.LessOrEqual(t, time.Since(start), lastFlush)
			require.Equal(t, 1, env.logs.count("they will be delivered again"))
		})
	})
}

func TestLockedBatch_RefusedAckRepeatsNoOtherMessage(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		const n = 50
		require.Empty(t, env.store.ids())
		env.store.publish(n)
		refused := env.store.ids()[7]
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == refused && s.Action == subscription.Ack })
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		require.Equal(t, []int64{refused}, env.store.ids())
		time.Sleep(10 * lease)
		c.requireNone()
		require.Equal(t, 1, env.logs.count("acks are refused or slow"))
		env.store.refuseIf(nil)
		time.Sleep(6 * time.Second)
		require.Empty(t, env.store.ids())
		require.Equal(t, 1, env.logs.count("acks are stored again"))
	})
}

// A store that takes no acks at all, as while the archive is gone that they go to, has each
// message handled once, and few of them, however far away it is.
func TestFetch_StopsWhileAllAcksAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		lockFor time.Duration
		call    time.Duration
	}{
		"acks of leased messages":  {},
		"acks of locked messages":  {lockFor: longestLock},
		"acks to a store far away": {call: latency},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				const n = 3000
				env.config.MaxInFlight, env.config.MaxPrefetch, env.config.LockFor = 50, 100, test.lockFor
				reported := make(chan error, 10000)
				env.store.publish(n)
				c := env.subscribeAs("A", backend.WithConsumer(t.Context(), backend.Consumer{Health: func(err error) { reported <- err }}))
				if test.call > 0 {
					c.inject(fault{wait: test.call}, settling)
				}
				handled := 0
				handle := func(idle time.Duration) {
					for {
						select {
						case msg := <-c.messages:
							c.recordReceived(msg)
							if handled++; handled == 30 {
								c.nack(msg, 12*time.Hour)
							} else {
								c.ack(msg)
							}
						case <-time.After(idle):
							return
						}
					}
				}
				env.store.refusesAcks.Store(true)
				handle(10 * time.Minute)
				require.Greater(t, handled, 100)
				require.Less(t, handled, 1000, "those that were claimed, too")
				require.ErrorContains(t, <-reported, "acks of")
				require.Error(t, *env.config.Counters.Failing.Load())
				require.EqualValues(t, 1, env.config.Counters.Nacked.Load())

				env.store.refusesAcks.Store(false)
				handle(time.Hour)
				time.Sleep(12 * time.Hour)
				handle(time.Hour)
				require.Equal(t, n+1, handled, "one was nacked")
				require.Empty(t, env.store.ids())
				require.Equal(t, 1, env.logs.count("receiving again"))
				require.Nil(t, env.config.Counters.Failing.Load())
				if test.call > 0 {
					c.clearFaults()
				}
			})
		})
	}
}

func TestOutcome_WhenRefusedIsAmended(t *testing.T) {
	for name, test := range map[string]struct {
		refused  func(subscription.Settlement) bool
		nack     func(*message.Message)
		action   subscription.Action
		answered int // failures, of the answer
		failures int // of the next delivery
		logged   string
	}{
		"a nack records nothing": {
			refused: func(s subscription.Settlement) bool { return !s.Bare },
			nack:    func(msg *message.Message) { backend.Nack(msg, backend.Redelivery{Failures: 3}) },
			action:  subscription.Nack, answered: 3, logged: "the failures of a message cannot be stored",
		},
		"a dead letter is stored with a plainer reason": {
			refused: func(s subscription.Settlement) bool { return !s.Bare },
			nack:    func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) },
			action:  subscription.DeadLetter,
		},
		"a dead letter comes back": {
			refused: func(s subscription.Settlement) bool { return s.Action == subscription.DeadLetter },
			nack:    func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) },
			action:  subscription.Nack, answered: 1, failures: 1, logged: "a dead letter cannot be moved",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.store.refuseIf(test.refused)
				env.store.publish(2)
				c := env.subscribe()
				refused, other := c.receive(), c.receive()
				c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(refused), action: test.action, failures: test.answered})
				test.nack(refused)
				synctest.Wait()
				time.Sleep(time.Second)
				if test.action == subscription.Nack {
					again := c.receive()
					require.Equal(t, test.failures, backend.DeliveryFromContext(again.Context()).Failures)
					env.store.refuseIf(nil)
					c.ack(again)
				}
				require.Equal(t, min(len(test.logged), 1), min(env.logs.count(test.logged), 1))
				env.store.refuseIf(nil)
				c.ack(other)
			})
		})
	}
}

func TestDeadLetter_PendingDelaysNoOtherOutcome(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(3)
		c := env.subscribe()
		deadLetter, acked, nacked := c.receive(), c.receive(), c.receive()
		c.script(settling, fault{wait: 4 * time.Second})
		c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(deadLetter), action: subscription.DeadLetter})
		backend.DeadLetter(deadLetter, backend.DeadLetterTarget{Topic: "dead"})
		synctest.Wait()
		c.ack(acked)
		c.nack(nacked, 0)
		synctest.Wait()
		require.Equal(t, []int64{1, 3}, env.store.ids())
		c.ack(c.receive())
		synctest.Wait()
		require.Equal(t, []int64{1}, env.store.ids())
		time.Sleep(5 * time.Second)
		require.Empty(t, env.store.ids())
	})
}

func TestLog_LastRecordNamesReasonOfRefusal(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.transient.Store(true)
		env.store.refuseIf(func(subscription.Settlement) bool { return true })
		env.store.publish(1)
		c := env.subscribe()
		backend.Nack(c.receive(), backend.Redelivery{Failures: 1})
		synctest.Wait()
		env.subscriptions.Close()
		require.Equal(t, 1, env.logs.count("could not store what has become of messages"))
		require.Zero(t, env.logs.count("error=<nil>"))
	})
}

func TestAck_FewRefusedAmongThousandsStopNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 5000
		env.config.MaxInFlight, env.config.MaxPrefetch, env.config.Linger = 1000, 1000, time.Millisecond
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID%1000 == 7 && s.Action == subscription.Ack })
		env.store.publish(n)
		c := env.subscribe()
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, []int64{7, 1007, 2007, 3007, 4007}, env.store.ids())
	})
}

func TestAck_RefusedTogetherAreLaterStoredSeparately(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 600
		env.config.MaxInFlight, env.config.Linger = n, time.Millisecond
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.Action == subscription.Ack })
		env.store.publish(n)
		c := env.subscribe()
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(time.Minute)
		require.Len(t, env.store.ids(), n)
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID%100 == 7 && s.Action == subscription.Ack })
		time.Sleep(time.Minute)
		require.Equal(t, []int64{7, 107, 207, 307, 407, 507}, env.store.ids())
	})
}

func TestDeadLetters_WithoutQueueComeBackAfterOneCall(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 100
		env.config.MaxInFlight, env.config.Linger = n, time.Millisecond
		env.store.whole.Store(true)
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.Action == subscription.DeadLetter })
		env.store.publish(n)
		c := env.subscribe()
		for range n {
			msg := c.receive()
			c.record(event{kind: answered, subscriber: c.subscriber, token: c.tokenOf(msg), action: subscription.Nack, failures: 1})
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		}
		for range n {
			msg := c.receive()
			require.Equal(t, 1, backend.DeliveryFromContext(msg.Context()).Failures)
			c.ack(msg)
		}
		require.Less(t, len(c.settlementCalls()), 20, "nothing is searched for by halves")
	})
}
