package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAHoldEndsEarlyWhereMostOfItIsSettledAndMoreIsWanted(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(9)
		for range 8 {
			c.ack(c.receive())
		}
		slow := c.receive()
		r.store.publish(9)
		for range 8 {
			c.ack(c.receive())
		}
		slower := c.receive()
		r.store.publish(1)
		start := time.Now()
		c.ack(c.receive())
		require.Zero(t, time.Since(start))
		c.ack(slow)
		c.ack(slower)
	})
}

func TestAfterAFailedHoldMessagesAreLeased(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		c.next(holding, fault{err: errStore})
		r.store.publish(1)
		c.ack(c.receive())
		failed := len(c.seen(holding))
		time.Sleep(5 * time.Second)
		r.store.publish(1)
		c.ack(c.receive())
		require.Len(t, c.seen(holding), failed)
	})
}

func TestAfterALostHoldTheOtherOneEndsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor = longestHold
		c := r.subscribe()
		for range 10 {
			r.store.publish(1)
			c.ack(c.receive())
		}
		time.Sleep(time.Second)
		r.store.publish(1)
		first := c.receive()
		time.Sleep(longestHold / 2)
		r.store.publish(1)
		second := c.receive()
		c.next(finishing, fault{err: errStore})
		requireLost(t, first)
		synctest.Wait()
		require.Len(t, c.seen(finishing), 2)
		require.NoError(t, second.Context().Err())
		c.ack(second)
		c.ack(c.receive())
	})
}

func TestWhoNeedsLeasesGetsThemForGood(t *testing.T) {
	holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
		r.store.publish(1)
		msg := c.receive()
		leased(t, msg)
		c.ack(msg)
		holds := len(c.seen(holding))
		for range 200 {
			r.store.publish(1)
			c.ack(c.receive())
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, len(c.seen(holding)), holds+1)
	})
}

func TestWhatIsHeldAndAckedCountsForThePrefetch(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor, r.config.MaxPrefetch = holdFor, 100
		c := r.subscribe()
		r.store.publish(2000)
		for range 2000 {
			msg := c.receive()
			time.Sleep(100 * time.Microsecond)
			c.ack(msg)
		}
		most := 0
		for _, call := range c.seen(holding)[10:] {
			most = max(most, call.limit)
		}
		require.Greater(t, most, 2*r.config.MaxInFlight)
	})
}
