package subscription_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

func TestSyncAck_FreesSlotWhenOutcomeIsStored(t *testing.T) {
	for name, settle := range map[string]func(c *consumer, msg *message.Message){
		"the outcome of an ack frees the slot": func(c *consumer, msg *message.Message) { c.ack(msg) },
		"the outcome of a nack frees the slot": func(c *consumer, msg *message.Message) { c.nack(msg, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.SyncAck = true
				env.config.MaxInFlight = 1
				env.store.publish(2)
				c := env.subscribe()
				msg := c.receive()
				c.script(settling, fault{wait: time.Second}, fault{err: errStore})
				settle(c, msg)
				time.Sleep(time.Second / 2)
				c.requireNone()
				require.Empty(t, env.store.recorded(settled))
				next := c.receive()
				require.Len(t, env.store.recorded(settled), 1, "before the next message was handed over")
				c.ack(next)
			})
		})
	}
}

func TestSyncAck_CloseWaitsUntilOutcomeIsStored(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.SyncAck = true
		env.store.publish(1)
		c := env.subscribe()
		msg := c.receive()
		c.script(settling, fault{err: errStore}, fault{err: errStore})
		c.ack(msg)
		env.subscriptions.Close()
		require.Empty(t, env.store.ids())
		c.requireClosed()
	})
}

func TestCounters_FollowEveryOutcome(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxInFlight, env.config.MaxPrefetch = 5, 10
		counters := env.config.Counters
		env.store.publish(6)
		c := env.subscribe()
		acked, nacked, gone, stolen, last := c.receive(), c.receive(), c.receive(), c.receive(), c.receive()
		synctest.Wait()
		require.EqualValues(t, 5, counters.InFlight.Load())

		thief := env.store.steal(4, time.Hour)
		requireLost(t, stolen)
		env.store.remove(3)
		c.inject(fault{err: errStore}, settling, claiming)
		c.ack(acked)
		c.nack(nacked, time.Hour)
		c.ack(gone)
		c.ack(stolen)
		time.Sleep(time.Second)
		require.EqualValues(t, 4, counters.Unstored.Load())
		require.ErrorIs(t, *counters.Failing.Load(), errStore)

		c.clearFaults()
		time.Sleep(2 * time.Second)
		require.Nil(t, counters.Failing.Load())
		require.EqualValues(t, 0, counters.Unstored.Load())
		require.EqualValues(t, 1, counters.Acked.Load())
		require.EqualValues(t, 1, counters.Nacked.Load())
		require.EqualValues(t, 1, counters.Gone.Load())
		require.EqualValues(t, 1, counters.TooLate.Load())
		require.EqualValues(t, 1, counters.LeasesLost.Load())
		require.EqualValues(t, 6, counters.Claimed.Load())
		require.EqualValues(t, 1, counters.InFlight.Load(), "another one waits to be received")
		require.EqualValues(t, 1, counters.Prefetched.Load())
		c.ack(last)
		c.ack(c.receive())
		env.store.settle("thief", ackOf(thief))
	})
}

func TestReceipt_SettledElsewhereIsNotSettledAgain(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		env.store.receipt = settledBeside(true)
		c := env.subscribe()
		msg := c.receive()
		env.store.settle("A", ackOf(env.store.tokens[msg])) // in a transaction of the handler, say
		c.ack(msg)
		time.Sleep(time.Second)
		require.Len(t, env.store.recorded(settled), 1)
		require.EqualValues(t, 1, env.config.Counters.Acked.Load())
	})
}

type settledBeside bool

func (s settledBeside) Settled() bool { return bool(s) }

func TestFinal_EndsSubscription(t *testing.T) {
	t.Run("the channel closes once what was handed over is settled", func(t *testing.T) {
		bubble(t, func(t *testing.T, env *environment) {
			errFinal := errors.New("final")
			env.config.MaxInFlight = 2
			env.config.Final = func(err error) bool { return errors.Is(err, errFinal) }
			env.store.publish(1)
			c := env.subscribe()
			msg := c.receive()
			c.inject(fault{err: errStore}, claiming)
			time.Sleep(time.Minute)
			c.requireNone() // any other error does not
			c.inject(fault{err: errFinal}, claiming)
			time.Sleep(2 * time.Second)
			require.Equal(t, 1, env.logs.count("the subscription ends"))
			require.NoError(t, msg.Context().Err())
			c.ack(msg)
			c.requireClosed()
			require.Empty(t, env.store.ids())
		})
	})
}

var _ subscription.Receipt = settledBeside(true)
