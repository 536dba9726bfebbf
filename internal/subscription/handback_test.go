package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/subscription"
)

// holdAgain has a consumer hold n messages that were delivered before, whose end takes
// its time.
func holdAgain(r *rig, c *consumer, n int) {
	start := time.Now()
	for range n {
		r.store.publish(10)
		for range 9 {
			c.ack(c.receive())
		}
		c.nack(c.receive(), time.Until(start.Add(time.Minute)))
		time.Sleep(time.Second)
	}
	finished := len(c.seen(finishing))
	c.next(finishing, fault{wait: latency})
	time.Sleep(time.Until(start.Add(time.Minute + latency/2)))
	require.Len(r.t, c.seen(finishing), finished+1)
	require.Len(r.t, c.seen(finishing)[finished].rest, n)
}

func TestWhatWaitsForTheEndOfItsHoldIsGivenBack(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		holdAgain(r, c, 1)
		r.set.Close()
		c.requireClosed()
		r.set = subscription.NewSet()
		other := r.subscribeAs("B", t.Context())
		start := time.Now()
		other.ack(other.receive())
		require.Less(t, time.Since(start), time.Second)
	})
}

func TestWhoWaitsForRoomHearsOfALostHold(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor, r.config.MaxInFlight = holdFor, 2
		c := r.subscribe()
		for range 10 {
			r.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		c.next(finishing, fault{err: errStore})
		r.store.publish(2)
		first, second := c.receive(), c.receive()
		holds := len(c.seen(holding))
		requireLost(t, first)
		requireLost(t, second)
		c.ack(c.receive())
		c.ack(c.receive())
		synctest.Wait()
		require.Len(t, c.seen(holding), holds)
	})
}

// Of a subscription that looks again before the outcomes are stored by themselves.
func TestWhatWasAckedInALostHoldIsNotFetchedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 1200 // more than one call carries
		r.config.HoldFor, r.config.MaxInFlight, r.config.Linger = holdFor, 2*n, time.Second
		r.config.PollMin, r.config.PollMax = pollMin, pollMin
		v := r.store.viewOf("A")
		v.polled = true
		c := r.start(t.Context(), v)
		for range 10 {
			r.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(2 * time.Second)
		r.store.publish(n + 1)
		c.next(finishing, fault{err: errStore})
		for range n {
			c.ack(c.receive())
		}
		requireLost(t, c.receive())
		c.ack(c.receive())
		c.requireNone()
		time.Sleep(2 * time.Second)
		require.Empty(t, r.store.ids())
	})
}
