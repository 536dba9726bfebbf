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

// slowFor has the store take too long for the outcomes of some messages, and for all that come with them.
func (v *storeView) slowFor(ids ...int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faultOf = func(c call) fault {
		if c.method != extending && c.concerns(ids...) {
			return fault{wait: hang}
		}
		return fault{}
	}
}

// everyTwentieth returns the ids of n messages.
func everyTwentieth(n int64) (ids []int64) {
	for id := range n {
		ids = append(ids, 7+20*id)
	}
	return ids
}

// claimedAgain returns the messages that were claimed more than once.
func (s *fakeStore) claimedAgain() (ids []int64) {
	for _, e := range s.recorded(claimed) {
		if e.token.Number > 1 {
			ids = append(ids, e.token.ID)
		}
	}
	return ids
}

// What comes meanwhile must not join what is searched, or the search never ends.
func TestSettler_FindsSlowOutcomesWhileOthersCome(t *testing.T) {
	for name, test := range map[string]struct {
		n      int
		slow   []int64
		within time.Duration // all others are stored
	}{
		"one of 40 outcomes is slow":   {40, []int64{7}, 20 * time.Second},
		"one of 500 outcomes is slow":  {500, []int64{7}, 20 * time.Second},
		"ten of 200 outcomes are slow": {200, everyTwentieth(10), 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.MaxInFlight, env.config.Linger = test.n, time.Millisecond
				env.store.publish(test.n)
				c := env.subscribe()
				c.slowFor(test.slow...)
				start := time.Now()
				for range test.n {
					c.ack(c.receive())
				}
				for time.Since(start) < test.within {
					env.store.publish(1)
					c.ack(c.receive())
					time.Sleep(100 * time.Millisecond)
				}
				c.requireNone()
				late := slices.DeleteFunc(env.store.ids(), func(id int64) bool { return id > int64(test.n) })
				require.Equal(t, test.slow, late)
				require.Less(t, len(env.store.ids())-len(late), 100, "what came waits for one try")
				require.EqualValues(t, len(env.store.ids()), env.config.Counters.Unstored.Load())
				require.Empty(t, env.store.claimedAgain())
				c.clearFaults()
				time.Sleep(3 * operation)
				require.Empty(t, env.store.ids())
			})
		})
	}
}

func TestSettler_StoresAllButSlowOutcomesAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 100
		env.config.MaxInFlight, env.config.Linger = n, time.Millisecond
		env.store.publish(n)
		c := env.subscribe()
		c.slowFor(7)
		for range n {
			c.ack(c.receive())
		}
		env.subscriptions.Close()
		c.requireClosed()
		require.Equal(t, []int64{7}, env.store.ids())
	})
}

func TestSettler_HasNothingHandledAgainThatWaitsForASlowAckUnderShortLeases(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.Lease, env.config.Linger = 4*time.Second, time.Millisecond
		env.store.publish(10)
		c := env.subscribe()
		c.slowFor(7)
		for start := time.Now(); time.Since(start) < time.Minute; {
			env.store.publish(1)
			c.ack(c.receive())
			time.Sleep(50 * time.Millisecond)
		}
		require.Contains(t, env.store.ids(), int64(7))
		require.Empty(t, env.store.claimedAgain())
		c.clearFaults()
		for env.config.Counters.Unstored.Load() > 0 {
			time.Sleep(time.Second)
		}
		for range len(env.store.ids()) {
			c.ack(c.receive())
		}
	})
}

func TestFetcher_GoesOnWhileAnAckIsSlow(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(20)
		slow := env.store.ids()[7]
		c.slowFor(slow)
		for range 20 {
			c.ack(c.receive())
		}
		for range 60 {
			env.store.publish(1)
			published := time.Now()
			c.ack(c.receive())
			require.Less(t, time.Since(published), operation+3*time.Second)
			time.Sleep(time.Second)
		}
		require.Contains(t, env.store.ids(), slow)
		c.clearFaults()
		time.Sleep(3 * operation)
		require.Empty(t, env.store.ids())
	})
}

// A trigger may sleep. Without an answer, it is not known which of the settlements was slow.
func TestSettler_KeepsSlowOutcomeApart(t *testing.T) {
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
		"a slow ack is stored apart":         {n: 400, slow: (*consumer).ack, other: (*consumer).ack},
		"a slow nack is stored apart":        {n: 400, slow: nack, other: (*consumer).ack, again: true},
		"a slow dead letter is stored apart": {n: 8, slow: letter, other: letter},
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

func TestSettler_DelaysLaterAcksByOneSlowTry(t *testing.T) {
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
		require.Equal(t, 1, env.logs.count("acks are refused or slow"))
		require.LessOrEqual(t, env.logs.count("cannot store outcomes"), 1, "while it was looked for")
		c.clearFaults()
		time.Sleep(3 * operation)
		require.Empty(t, env.store.ids())
	})
}

func TestSettler_StoresAllSoonAfterSilentOutage(t *testing.T) {
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
		require.Less(t, env.logs.count("it cannot be stored"), 120, "that is one each 5 seconds")
		for range n/10 - 1 {
			c.ack(c.receive())
		}
	})
}

// What is slow is known by then, and no claim carries an ack that may be.
func TestFetch_StopsOnceForSeveralSlowAcks(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxInFlight, env.config.Linger = 100, time.Millisecond
		c := env.subscribe()
		c.slowFor(everyTwentieth(5)...)
		var waits []time.Duration
		for range 400 {
			env.store.publish(1)
			published := time.Now()
			c.ack(c.receive())
			if wait := time.Since(published); wait > 100*time.Millisecond {
				waits = append(waits, wait)
			}
			time.Sleep(50 * time.Millisecond)
		}
		require.LessOrEqual(t, len(waits), 1, "%v", waits)
		time.Sleep(time.Minute)
		require.Equal(t, everyTwentieth(5), env.store.ids())
		require.Empty(t, env.store.claimedAgain())
		c.clearFaults()
		time.Sleep(6 * operation)
	})
}

func TestSyncAck_SlowAcksDelayOthersForSecondsOnly(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.SyncAck, env.config.MaxInFlight = true, 4
		c := env.subscribe()
		c.slowFor(everyTwentieth(3)...)
		var worst time.Duration
		for range 1000 {
			env.store.publish(1)
			published := time.Now()
			c.ack(c.receive())
			worst = max(worst, time.Since(published))
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, worst, 2*operation)
		require.LessOrEqual(t, len(env.store.ids()), 4)
		c.clearFaults()
		time.Sleep(6 * operation)
	})
}

func TestSettler_StoresAllButManySlowOutcomesAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		const n = 300
		env.config.MaxInFlight, env.config.Linger = n, time.Millisecond
		env.store.publish(n)
		c := env.subscribe()
		c.slowFor(everyTwentieth(10)...)
		for range n {
			c.ack(c.receive())
		}
		time.Sleep(operation + time.Second) // the search has begun
		env.subscriptions.Close()
		c.requireClosed()
		require.Equal(t, everyTwentieth(10), env.store.ids())
	})
}
