package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/subscription"
)

// linger is longer than what is acked at once, and shorter than a hold.
const linger = holdFor / 2

// lingeringBubble runs f in virtual time with a consumer that holds messages, that has
// messages claimed ahead, and for which a message waits that has failed once.
func lingeringBubble(t *testing.T, f func(t *testing.T, r *rig, c *consumer, again time.Time)) {
	t.Helper()
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor, r.config.Linger, r.config.MaxPrefetch = holdFor, linger, 10
		c := r.subscribe()
		r.store.publish(300)
		for i := range 300 {
			msg := c.receive()
			time.Sleep(time.Millisecond)
			if i == 100 {
				c.nack(msg, time.Minute)
			} else {
				c.ack(msg)
			}
		}
		time.Sleep(time.Second)
		require.Len(t, r.store.ids(), 1)
		f(t, r, c, r.nackedUntil())
	})
}

// nackedUntil returns when the message comes again that was nacked.
func (r *rig) nackedUntil() (again time.Time) {
	for _, e := range r.store.read(settled) {
		if e.action == subscription.Nack {
			again = e.at.Add(e.delay)
		}
	}
	return again
}

// holdBeside has a message held that was delivered before, and n that were not.
func holdBeside(r *rig, c *consumer, again time.Time, n int) {
	r.t.Helper()
	held := r.heldMessages()
	r.store.publishDelayed(n, time.Until(again))
	time.Sleep(time.Until(again))
	synctest.Wait()
	require.Equal(r.t, held+1+n, r.heldMessages())
	require.Empty(r.t, c.seen(extending))
}

func TestAMessageThatIsLostBeforeItIsLeasedHadNoSlot(t *testing.T) {
	lingeringBubble(t, func(t *testing.T, r *rig, c *consumer, again time.Time) {
		lost := r.config.Counters.LeasesLost.Load()
		c.next(finishing, fault{err: errStore})
		holdBeside(r, c, again, 0)
		require.Equal(t, lost+1, r.config.Counters.LeasesLost.Load())
		r.store.publish(50)
		for range r.config.MaxInFlight {
			msg := c.receive()
			defer c.ack(msg)
		}
		require.Greater(t, mostHeld(r.store.read()), r.config.MaxInFlight, "there are more")
		c.requireNone()
	})
}

func TestWhatWasDeliveredBeforeIsLeasedAtOnce(t *testing.T) {
	for name, fresh := range map[string]int{"where nothing else is held": 0, "when all else is acked": 3} {
		t.Run(name, func(t *testing.T) {
			lingeringBubble(t, func(t *testing.T, r *rig, c *consumer, again time.Time) {
				holdBeside(r, c, again, fresh)
				for range fresh {
					c.ack(c.receive())
				}
				c.ack(c.receive())
				require.Zero(t, time.Since(again))
			})
		})
	}
}

func TestWhatWasDeliveredBeforeDoesNotWaitForASlowHandler(t *testing.T) {
	lingeringBubble(t, func(t *testing.T, r *rig, c *consumer, again time.Time) {
		holdBeside(r, c, again, 1)
		slow, failed := c.receive(), c.receive()
		require.LessOrEqual(t, time.Since(again), linger)
		c.ack(slow)
		c.ack(failed)
	})
}

func TestWhatIsGivenBackBeforeItIsLeasedDoesNotEndItsHold(t *testing.T) {
	lingeringBubble(t, func(t *testing.T, r *rig, c *consumer, again time.Time) {
		holdBeside(r, c, again, 2)
		first, second := c.receive(), c.receive()
		closed := make(chan struct{})
		go func() { defer close(closed); r.set.Close() }()
		synctest.Wait()
		c.ack(first)
		synctest.Wait()
		c.ack(second)
		<-closed
		finished := c.seen(finishing)
		require.Len(t, finished[len(finished)-1].tokens, 2)
		require.Len(t, r.store.ids(), 1)
	})
}

// It was not acked soon because it was not delivered yet.
func TestWhatIsLeasedFirstSaysNothingAboutHolding(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		holdAgain(r, c, 10)
		for range 10 {
			c.ack(c.receive())
		}
		held := r.heldMessages()
		r.store.publish(1)
		c.ack(c.receive())
		require.Equal(t, held+1, r.heldMessages())
	})
}
