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
		r.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == 7 && s.Action == subscription.Ack })
		r.store.publish(n)
		c := r.subscribe()
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		require.Equal(t, []int64{7}, r.store.ids())
		require.Less(t, len(c.outcomes()), 30, "it is looked for by halves")
	})
}

// A deadlock, say, which may as well be what a trigger makes of one outcome.
func TestWhatTheStoreMayTakeLaterStopsNoOtherAndIsStoredAsItIs(t *testing.T) {
	for name, test := range map[string]struct {
		trouble  time.Duration
		failures int // that are stored
	}{
		"if it takes it soon":                    {2 * time.Second, 3},
		"or else as if it were refused for good": {20 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				const n = 400
				r.config.MaxInFlight, r.config.Linger = n, time.Millisecond
				r.store.mayPass.Store(true)
				r.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == 7 && !s.Bare })
				r.store.publish(n)
				c := r.subscribe()
				for range n {
					msg := c.receive()
					if c.tokenOf(msg).ID != 7 {
						c.ack(msg)
						continue
					}
					c.note(event{kind: answered, who: c.who, token: c.tokenOf(msg), action: subscription.Nack, failed: 3})
					backend.Nack(msg, backend.Redelivery{Failures: 3})
				}
				time.Sleep(time.Second)
				require.Equal(t, []int64{7}, r.store.ids())
				require.Less(t, len(c.outcomes()), 40, "it is looked for by halves")
				time.Sleep(test.trouble - time.Second)
				r.store.refuseIf(nil)
				again := c.receive()
				require.Equal(t, test.failures, backend.DeliveryFromContext(again.Context()).Failures)
				require.Less(t, len(c.outcomes()), 50, "each try is a call")
				c.ack(again)
			})
		})
	}
}

func TestAMessageWhoseAckIsRefusedIsNotHandledAgain(t *testing.T) {
	for name, sync := range map[string]bool{"": false, "with SyncAck": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.config.SyncAck, r.config.MaxInFlight = sync, 1
				r.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == 1 && s.Action == subscription.Ack })
				r.store.publish(2)
				c := r.subscribe()
				c.ack(c.receive())
				c.ack(c.receive())
				time.Sleep(20 * lease)
				require.Equal(t, []int64{1}, r.store.ids())
				select {
				case again := <-c.messages:
					require.Fail(t, "it is delivered again", again.UUID)
				default:
				}
				require.Less(t, len(c.outcomes()), 200, "each try is a call")
				require.Equal(t, 1, r.log.count("it cannot be stored that messages are done"))
				require.EqualValues(t, 1, r.config.Counters.Unstored.Load())
				require.Zero(t, r.config.Counters.InFlight.Load())
				r.store.refuseIf(nil)
				time.Sleep(6 * time.Second)
				require.Empty(t, r.store.ids())
			})
		})
	}
	t.Run("unless it is lost", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.refuseIf(func(s subscription.Settlement) bool { return s.Number == 1 })
			r.store.publish(1)
			c := r.subscribe()
			c.ack(c.receive())
			time.Sleep(lease)
			r.store.expire(1)
			c.ack(c.receive())
			time.Sleep(lease)
			require.Empty(t, r.store.ids())
			require.Zero(t, r.config.Counters.Unstored.Load())
			extended := len(c.seen(extending))
			time.Sleep(10 * lease)
			require.Len(t, c.seen(extending), extended, "nothing is extended any more")
		})
	})
	t.Run("until its subscription ends", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.refuseIf(func(s subscription.Settlement) bool { return s.Action == subscription.Ack })
			r.store.publish(1)
			c := r.subscribe()
			c.ack(c.receive())
			time.Sleep(lease)
			start := time.Now()
			r.set.Close()
			require.LessOrEqual(t, time.Since(start), lastFlush)
			require.Equal(t, 1, r.log.count("they will be delivered again"))
		})
	})
}

func TestARefusedAckHasNothingElseOfItsHoldHandledAgain(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		const n = 50
		require.Empty(t, r.store.ids())
		r.store.publish(n)
		odd := r.store.ids()[7]
		r.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == odd && s.Action == subscription.Ack })
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		require.Equal(t, []int64{odd}, r.store.ids())
		time.Sleep(10 * lease)
		c.requireNone()
		require.Equal(t, 1, r.log.count("it cannot be stored that messages are done"))
		r.store.refuseIf(nil)
		time.Sleep(6 * time.Second)
		require.Empty(t, r.store.ids())
	})
}

// A store that takes no acks at all, as while the archive is gone that they go to, has each
// message handled once, and few of them, however far away it is.
func TestNothingIsFetchedWhileAllAcksAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		holdFor time.Duration
		call    time.Duration
	}{
		"leased":   {},
		"held":     {holdFor: longestHold},
		"far away": {call: latency},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				const n = 3000
				r.config.MaxInFlight, r.config.MaxPrefetch, r.config.HoldFor = 50, 100, test.holdFor
				heard := make(chan error, 10000)
				r.store.publish(n)
				c := r.subscribeAs("A", backend.WithConsumer(t.Context(), backend.Consumer{Health: func(err error) { heard <- err }}))
				if test.call > 0 {
					c.always(fault{wait: test.call}, settling)
				}
				handled := 0
				handle := func(idle time.Duration) {
					for {
						select {
						case msg := <-c.messages:
							c.received(msg)
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
				r.store.noAcks.Store(true)
				handle(10 * time.Minute)
				require.Greater(t, handled, 100)
				require.Less(t, handled, 1000, "those that were claimed, too")
				require.ErrorContains(t, <-heard, "acks of")
				require.Error(t, *r.config.Counters.Failing.Load())
				require.EqualValues(t, 1, r.config.Counters.Nacked.Load())

				r.store.noAcks.Store(false)
				handle(time.Hour)
				time.Sleep(12 * time.Hour)
				handle(time.Hour)
				require.Equal(t, n+1, handled, "one was nacked")
				require.Empty(t, r.store.ids())
				require.Equal(t, 1, r.log.count("receiving again"))
				require.Nil(t, r.config.Counters.Failing.Load())
				if test.call > 0 {
					c.heal()
				}
			})
		})
	}
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
			nack:   func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) },
			action: subscription.DeadLetter,
		},
		"a dead letter comes back": {
			odd:    func(s subscription.Settlement) bool { return s.Action == subscription.DeadLetter },
			nack:   func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) },
			action: subscription.Nack, told: 1, failures: 1, logged: "a dead letter cannot be moved",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.store.refuseIf(test.odd)
				r.store.publish(2)
				c := r.subscribe()
				odd, other := c.receive(), c.receive()
				c.note(event{kind: answered, who: c.who, token: c.tokenOf(odd), action: test.action, failed: test.told})
				test.nack(odd)
				synctest.Wait()
				time.Sleep(time.Second)
				if test.action == subscription.Nack {
					again := c.receive()
					require.Equal(t, test.failures, backend.DeliveryFromContext(again.Context()).Failures)
					r.store.refuseIf(nil)
					c.ack(again)
				}
				require.Equal(t, min(len(test.logged), 1), min(r.log.count(test.logged), 1))
				r.store.refuseIf(nil)
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
		backend.DeadLetter(letter, backend.DeadLetterTarget{Topic: "dead"})
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

func TestTheLastRecordSaysWhyAnOutcomeIsNotStored(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.store.mayPass.Store(true)
		r.store.refuseIf(func(subscription.Settlement) bool { return true })
		r.store.publish(1)
		c := r.subscribe()
		backend.Nack(c.receive(), backend.Redelivery{Failures: 1})
		synctest.Wait()
		r.set.Close()
		require.Equal(t, 1, r.log.count("could not store what has become of messages"))
		require.Zero(t, r.log.count("error=<nil>"))
	})
}

func TestAFewAcksThatAreRefusedAmongThousandsStopNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 5000
		r.config.MaxInFlight, r.config.MaxPrefetch, r.config.Linger = 1000, 1000, time.Millisecond
		r.store.refuseIf(func(s subscription.Settlement) bool { return s.ID%1000 == 7 && s.Action == subscription.Ack })
		r.store.publish(n)
		c := r.subscribe()
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, []int64{7, 1007, 2007, 3007, 4007}, r.store.ids())
	})
}

func TestAcksThatWereRefusedTogetherAreStoredWhenOnlySomeOfThemAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 600
		r.config.MaxInFlight, r.config.Linger = n, time.Millisecond
		r.store.refuseIf(func(s subscription.Settlement) bool { return s.Action == subscription.Ack })
		r.store.publish(n)
		c := r.subscribe()
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(time.Minute)
		require.Len(t, r.store.ids(), n)
		r.store.refuseIf(func(s subscription.Settlement) bool { return s.ID%100 == 7 && s.Action == subscription.Ack })
		time.Sleep(time.Minute)
		require.Equal(t, []int64{7, 107, 207, 307, 407, 507}, r.store.ids())
	})
}

func TestLettersThatHaveNoQueueComeBackAfterOneCall(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 100
		r.config.MaxInFlight, r.config.Linger = n, time.Millisecond
		r.store.whole.Store(true)
		r.store.refuseIf(func(s subscription.Settlement) bool { return s.Action == subscription.DeadLetter })
		r.store.publish(n)
		c := r.subscribe()
		for range n {
			msg := c.receive()
			c.note(event{kind: answered, who: c.who, token: c.tokenOf(msg), action: subscription.Nack, failed: 1})
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
		}
		for range n {
			msg := c.receive()
			require.Equal(t, 1, backend.DeliveryFromContext(msg.Context()).Failures)
			c.ack(msg)
		}
		require.Less(t, len(c.outcomes()), 20, "nothing is looked for by halves")
	})
}
