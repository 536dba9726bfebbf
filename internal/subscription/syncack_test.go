package subscription_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/subscription"
)

func TestWithSyncAckASlotIsFreeWhenTheOutcomeIsStored(t *testing.T) {
	for name, settle := range map[string]func(c *consumer, msg *message.Message){
		"an ack": func(c *consumer, msg *message.Message) { c.ack(msg) },
		"a nack": func(c *consumer, msg *message.Message) { c.nack(msg, time.Hour) },
	} {
		t.Run("of "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.config.SyncAck = true
				r.config.MaxInFlight = 1
				r.store.publish(2)
				c := r.subscribe()
				msg := c.receive()
				c.next(settling, fault{wait: time.Second}, fault{err: errStore})
				settle(c, msg)
				time.Sleep(time.Second / 2)
				c.requireNone()
				require.Empty(t, r.store.read(settled))
				next := c.receive()
				require.Len(t, r.store.read(settled), 1, "before the next message was handed over")
				c.ack(next)
			})
		})
	}
}

func TestWithSyncAckAnEndWaitsUntilTheOutcomeIsStored(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.SyncAck = true
		r.store.publish(1)
		c := r.subscribe()
		msg := c.receive()
		c.next(settling, fault{err: errStore}, fault{err: errStore})
		c.ack(msg)
		r.set.Close()
		require.Empty(t, r.store.ids())
		c.requireClosed()
	})
}

func TestCountersTellWhatHappened(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.MaxInFlight, r.config.MaxPrefetch = 5, 10
		counters := r.config.Counters
		r.store.publish(6)
		c := r.subscribe()
		acked, nacked, gone, stolen, held := c.receive(), c.receive(), c.receive(), c.receive(), c.receive()
		synctest.Wait()
		require.EqualValues(t, 5, counters.InFlight.Load())

		thief := r.store.steal(4, time.Hour)
		requireLost(t, stolen)
		r.store.remove(3)
		c.always(fault{err: errStore}, settling, claiming)
		c.ack(acked)
		c.nack(nacked, time.Hour)
		c.ack(gone)
		c.ack(stolen)
		time.Sleep(time.Second)
		require.EqualValues(t, 4, counters.Unstored.Load())
		require.ErrorIs(t, *counters.Failing.Load(), errStore)

		c.heal()
		time.Sleep(2 * time.Second)
		require.Nil(t, counters.Failing.Load())
		require.EqualValues(t, 0, counters.Unstored.Load())
		require.EqualValues(t, 1, counters.Acked.Load())
		require.EqualValues(t, 1, counters.Nacked.Load())
		require.EqualValues(t, 1, counters.Gone.Load())
		require.EqualValues(t, 1, counters.Lost.Load())
		require.EqualValues(t, 1, counters.LeasesLost.Load())
		require.EqualValues(t, 6, counters.Claimed.Load())
		require.EqualValues(t, 1, counters.InFlight.Load(), "another one waits to be received")
		require.EqualValues(t, 1, counters.Waiting.Load())
		c.ack(held)
		c.ack(c.receive())
		r.store.settle("thief", ackOf(thief))
	})
}

func TestAMessageThatWasSettledBesideIsNotSettledAgain(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.store.publish(1)
		r.store.receipt = settledBeside(true)
		c := r.subscribe()
		msg := c.receive()
		r.store.settle("A", ackOf(r.store.tokens[msg])) // in a transaction of the handler, say
		c.ack(msg)
		time.Sleep(time.Second)
		require.Len(t, r.store.read(settled), 1)
		require.EqualValues(t, 1, r.config.Counters.Acked.Load())
	})
}

type settledBeside bool

func (s settledBeside) Settled() bool { return bool(s) }

func TestAnErrorCanEndTheSubscription(t *testing.T) {
	t.Run("once what was handed over is settled", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			errFinal := errors.New("final")
			r.config.MaxInFlight = 2
			r.config.Final = func(err error) bool { return errors.Is(err, errFinal) }
			r.store.publish(1)
			c := r.subscribe()
			msg := c.receive()
			c.always(fault{err: errStore}, claiming)
			time.Sleep(time.Minute)
			c.requireNone() // any other error does not
			c.always(fault{err: errFinal}, claiming)
			time.Sleep(2 * time.Second)
			require.Equal(t, 1, r.log.count("the subscription ends"))
			require.NoError(t, msg.Context().Err())
			c.ack(msg)
			c.requireClosed()
			require.Empty(t, r.store.ids())
		})
	})
}

var _ subscription.Receipt = settledBeside(true)
