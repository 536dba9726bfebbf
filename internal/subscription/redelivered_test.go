package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/subscription"
)

// redeliveringBubble runs f in virtual time with a consumer that holds messages, has
// others claimed ahead, and is about to hold one that has failed once, number 101.
func redeliveringBubble(t *testing.T, f func(t *testing.T, r *rig, c *consumer, again time.Time)) {
	t.Helper()
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor, r.config.MaxPrefetch = holdFor, 10
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
		require.Equal(t, []int64{101}, r.store.ids())
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

// holdBeside has a message held that was delivered before, between others that were not.
func holdBeside(r *rig, c *consumer, again time.Time, before, after int) {
	r.t.Helper()
	held := r.heldMessages()
	r.store.publishDelayed(before, time.Until(again)-latency/2) // when it begins to look
	r.store.publishDelayed(after, time.Until(again)+latency/4)
	synctest.Wait()
	c.next(holding, fault{wait: latency})
	time.Sleep(time.Until(again) + latency/2)
	synctest.Wait()
	require.Equal(r.t, held+before+1+after, r.heldMessages())
}

func TestARedeliveryIsLeasedWithAllThatIsHeldWithItAndOvertakenByNothing(t *testing.T) {
	redeliveringBubble(t, func(t *testing.T, r *rig, c *consumer, again time.Time) {
		finished := len(c.seen(finishing))
		holdBeside(r, c, again, 2, 3)
		start := time.Now()
		for _, id := range []string{"301", "302", "101", "303", "304", "305"} {
			require.Len(t, c.seen(finishing), finished+1)
			msg := c.receive()
			require.Equal(t, id, msg.UUID)
			c.ack(msg)
		}
		require.Zero(t, time.Since(start))
		require.Empty(t, c.seen(finishing)[finished].tokens)
		require.Len(t, c.seen(finishing)[finished].rest, 6)
	})
}

func TestARedeliveryThatCannotBeLeasedIsNotHandedOver(t *testing.T) {
	for name, broken := range map[string]fault{"as its store says": {err: errStore}, "as far as is known": {lost: errStore}} {
		t.Run(name, func(t *testing.T) {
			redeliveringBubble(t, func(t *testing.T, r *rig, c *consumer, again time.Time) {
				claims := len(c.seen(claiming))
				c.next(finishing, broken)
				holdBeside(r, c, again, 2, 3)
				for range 6 {
					c.ack(c.receive())
				}
				require.Greater(t, len(c.seen(claiming)), claims)
				time.Sleep(time.Second)
				require.Empty(t, r.store.ids())
				require.Zero(t, r.config.Counters.LeasesLost.Load(), "nobody had them")
			})
		})
	}
}

// It may be what has ended the process of a consumer, which left no other trace.
func TestWhatWasHeldAndNotRemovedIsCountedBeforeItIsDelivered(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		finished := len(c.seen(finishing))
		r.store.publishDelayed(1, time.Second)
		r.store.touch(11)
		msg := c.receive()
		require.Len(t, c.seen(finishing), finished+1)
		require.Equal(t, 1, r.store.numberOf(11))
		c.ack(msg)
	})
}

// A redelivery was not acked soon because it had to be leased.
func TestARedeliverySaysNothingAboutHolding(t *testing.T) {
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
