package subscription_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutcomesAreStoredTogether(t *testing.T) {
	t.Run("that come while one of them lingers", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.Linger = 5 * time.Millisecond
			r.store.publish(4)
			c := r.subscribe()
			first, second, third, late := c.receive(), c.receive(), c.receive(), c.receive()
			start := time.Now()
			c.ack(first)
			c.nack(second, time.Hour)
			time.Sleep(4 * time.Millisecond)
			c.ack(third)
			time.Sleep(2 * time.Millisecond)
			c.ack(late)
			time.Sleep(time.Second)
			calls := c.outcomes()
			require.Len(t, calls, 2)
			require.Len(t, calls[0].settle, 3)
			require.Equal(t, 5*time.Millisecond, calls[0].at.Sub(start))
			require.Len(t, calls[1].settle, 1)
		})
	})
	t.Run("that come while the batch before them is being stored", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.publish(4)
			c := r.subscribe()
			c.next(settling, fault{wait: time.Second})
			c.nack(c.receive(), time.Hour)
			for range 3 {
				time.Sleep(10 * time.Millisecond)
				c.nack(c.receive(), time.Hour)
			}
			time.Sleep(2 * time.Second)
			calls := c.outcomes()
			require.Len(t, calls, 2)
			require.Len(t, calls[1].settle, 3)
		})
	})
	t.Run("with a claim that happens to be made", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.MaxInFlight = 1
			r.config.Linger = time.Minute
			r.store.publish(3)
			c := r.subscribe()
			for range 3 {
				c.ack(c.receive())
			}
			synctest.Wait()
			require.Empty(t, r.store.ids())
			require.Empty(t, c.seen(settling))
		})
	})
	t.Run("but not more of them than one call should carry", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.MaxInFlight = 1200
			r.config.Linger = time.Millisecond
			r.store.publish(1200)
			c := r.subscribe()
			for range 1200 {
				c.nack(c.receive(), time.Hour)
			}
			time.Sleep(time.Second)
			carried := 0
			for _, call := range c.outcomes() {
				require.LessOrEqual(t, len(call.settle), 500)
				carried += len(call.settle)
			}
			require.Equal(t, 1200, carried)
		})
	})
}

// outcomes returns the calls that carried outcomes.
func (c *consumer) outcomes() (calls []call) {
	for _, made := range append(c.seen(claiming), c.seen(settling)...) {
		if len(made.settle) > 0 {
			calls = append(calls, made)
		}
	}
	return calls
}

func TestAnOutcomeThatCannotBeStored(t *testing.T) {
	t.Run("is tried again until it can, and none is forgotten", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.publish(4)
			c := r.subscribe()
			acked, nacked, later, last := c.receive(), c.receive(), c.receive(), c.receive()
			c.always(fault{err: errStore}, settling, claiming)
			c.ack(acked)
			c.nack(nacked, time.Second)
			time.Sleep(time.Second)
			c.ack(later)
			c.ack(last)
			time.Sleep(5 * time.Second)
			require.Equal(t, []int64{1, 2, 3, 4}, r.store.ids())
			require.InDelta(t, 3, r.log.count("cannot store which messages are done"), 1, "at once, and after 1 and 2 seconds more")
			c.heal()
			again := c.receive()
			require.Equal(t, []int64{2}, r.store.ids())
			require.Equal(t, nacked.UUID, again.UUID)
			c.ack(again)
		})
	})
	t.Run("may have been stored all the same: repeating it does no harm", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.config.MaxInFlight = 2
			r.store.publish(2)
			c := r.subscribe()
			acked, nacked := c.receive(), c.receive()
			c.next(settling, fault{lost: errStore}, fault{reply: hang}, fault{lost: errStore})
			c.next(claiming, fault{lost: errStore})
			c.ack(acked)
			c.nack(nacked, time.Minute)
			again := c.receive()
			require.Equal(t, "2", again.UUID)
			c.ack(again)
			synctest.Wait()
			require.Empty(t, r.store.ids())
			require.Zero(t, r.log.count("after their leases were lost"))
		})
	})
	t.Run("does not touch the lease that somebody has got in the meantime", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			r.store.publish(1)
			c := r.subscribe()
			c.next(settling, fault{lost: errStore})
			c.nack(c.receive(), 0)
			again := c.receive()
			time.Sleep(time.Second) // the nack is repeated
			require.Len(t, r.store.read(claimed), 2)
			require.NoError(t, again.Context().Err())
			c.ack(again)
		})
	})
}

func TestALateAckIsReportedAndChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.store.publish(1)
		c := r.subscribe()
		msg := c.receive()
		stolen := r.store.steal(1, time.Hour)
		requireLost(t, msg)
		c.ack(msg)
		synctest.Wait()
		require.Equal(t, 1, r.log.count("after their leases were lost"))
		require.Equal(t, []int64{1}, r.store.ids())
		r.store.settle("competitor", ackOf(stolen))
	})
}

func TestAnAckInTimeCountsAlthoughTheContextHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.MaxExtension = time.Minute
		r.store.publish(1)
		c := r.subscribe()
		msg := c.receive()
		requireLost(t, msg)
		c.ack(msg)
		synctest.Wait()
		require.Empty(t, r.store.ids(), "nobody else has got the message")
		require.ErrorIs(t, msg.Context().Err(), context.Canceled)
	})
}
