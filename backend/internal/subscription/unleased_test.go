package subscription_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// A trigger that returns NULL leaves a row as it is, and PostgreSQL says nothing.
func TestLockedBatch_LosesWhatItCannotLease(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		const n = 10 // as many as there are slots
		env.store.leaveUnchanged(func(int64) bool { return true })
		env.store.publish(n)
		var all []*message.Message
		for range n {
			all = append(all, c.receive())
		}
		c.nack(all[1], time.Hour) // that changes nothing, either
		time.Sleep(lockFor)
		for _, msg := range all[2:] {
			requireLost(t, msg)
		}
		synctest.Wait()
		require.Zero(t, env.config.Counters.InFlight.Load())
		require.Zero(t, env.config.Counters.Unstored.Load())
		require.EqualValues(t, n-1, env.config.Counters.LeasesLost.Load())
		require.Equal(t, 1, env.logs.count("messages cannot be leased"))
		require.Equal(t, 1, env.logs.count("trigger that returns NULL"))
		c.ack(all[0])
		c.nack(all[2], 0)
		time.Sleep(time.Second)
		require.Zero(t, env.config.Counters.Unstored.Load())
		require.Len(t, env.store.ids(), n-1, "an ack counts while no other consumer has its message")
		c.requireNone()

		env.store.leaveUnchanged(nil)
		for range n - 1 {
			c.ack(c.receive())
		}
		env.subscriptions.Close()
		c.requireClosed()
		require.Empty(t, env.store.ids())
	})
}

func TestRedelivery_ThatCannotBeLeasedDelaysNoOther(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(2)
		odd := env.store.ids()[0]
		env.store.leaveUnchanged(func(id int64) bool { return id == odd })
		lost, other := c.receive(), c.receive()
		c.ack(other)
		requireLost(t, lost)
		for range 100 {
			env.store.publish(1)
			published := time.Now()
			c.ack(c.receive())
			require.Less(t, time.Since(published), time.Second)
		}
		synctest.Wait()
		require.Equal(t, []int64{odd}, env.store.ids())
		require.EqualValues(t, 0, env.config.Counters.InFlight.Load())
		env.store.leaveUnchanged(nil)
		c.ack(c.receive())
	})
}

// Each claim wakes the extender.
func TestExtender_TriesAFailedExtensionOnceASecond(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		c := env.subscribe()
		c.extendsBadly(fault{err: &subscription.Refusal{Cause: errRefused}}, 1)
		bad := c.receive()
		for start := time.Now(); time.Since(start) < lease-time.Second; time.Sleep(50 * time.Millisecond) {
			env.store.publish(1)
			c.ack(c.receive())
		}
		require.NoError(t, bad.Context().Err())
		require.Positive(t, len(c.callsOf(extending)))
		require.Less(t, len(c.callsOf(extending)), 30)
		require.LessOrEqual(t, env.logs.count("cannot extend leases"), 6)
		requireLost(t, bad)
		c.clearFaults()
		c.ack(c.receive())
	})
}

func TestLog_OfLeasesThatCannotBeExtendedThins(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(1)
		env.store.refuseIf(func(subscription.Settlement) bool { return true })
		c := env.subscribe()
		c.extendsBadly(fault{err: &subscription.Refusal{Cause: errRefused}}, 1)
		c.ack(c.receive())
		time.Sleep(lease / 2)
		before := env.logs.count("cannot extend leases")
		require.Positive(t, before)
		for range 10 {
			env.store.lockFor(1, 2*time.Minute) // or it is delivered again
			time.Sleep(time.Minute)
		}
		require.LessOrEqual(t, env.logs.count("cannot extend leases"), before+11)
		env.store.refuseIf(nil)
		c.clearFaults()
	})
}

// The row of a message may be refused whatever is done with it. Until the ack of a lost lock is stored,
// or its message leased, nothing is fetched.
func TestFetch_GoesOnIfNothingOfOneMessageCanBeStored(t *testing.T) {
	lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
		env.store.publish(5)
		odd := env.store.ids()[2]
		env.store.refuseIf(func(s subscription.Settlement) bool { return s.ID == odd })
		env.store.leaveUnchanged(func(id int64) bool { return id == odd })
		c.extendsBadly(fault{err: &subscription.Refusal{Cause: errRefused}}, odd)
		c.script(finishing, fault{err: errStore})
		for range 5 {
			c.ack(c.receive())
		}
		time.Sleep(lockFor)
		for range 100 {
			env.store.publish(1)
			published := time.Now()
			c.ack(c.receive())
			require.Less(t, time.Since(published), time.Second)
		}
		env.store.refuseIf(nil)
		env.store.leaveUnchanged(nil)
		c.clearFaults()
		time.Sleep(2 * operation)
	})
}
