package subscription_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// extendsBadly has the store fail to extend the leases of some messages, and of all that come with them.
func (v *storeView) extendsBadly(f fault, ids ...int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faultOf = func(c call) fault {
		if c.method == extending && c.concerns(ids...) {
			return f
		}
		return fault{}
	}
}

// A trigger may refuse to write a row, or sleep.
func TestExtender_LosesOnlyTheLeasesThatCannotBeExtended(t *testing.T) {
	refused := fault{err: &subscription.Refusal{Cause: errRefused}}
	for name, test := range map[string]struct {
		lease time.Duration
		n     int
		fault fault
		bad   []int64
	}{
		"one short lease is refused":       {4 * time.Second, 10, refused, []int64{7}},
		"one short lease gets no answer":   {4 * time.Second, 10, fault{wait: hang}, []int64{7}},
		"one of 500 leases is refused":     {lease, 500, refused, []int64{7}},
		"one of 500 leases gets no answer": {lease, 500, fault{wait: hang}, []int64{7}},
		"20 of 500 leases are refused":     {lease, 500, refused, everyTwentieth(20)},
		"2 of 100 leases get no answer":    {lease, 100, fault{wait: hang}, everyTwentieth(2)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.Lease, env.config.MaxInFlight = test.lease, test.n
				env.store.publish(test.n)
				c := env.subscribe()
				c.extendsBadly(test.fault, test.bad...)
				var all []*message.Message
				for range test.n {
					all = append(all, c.receive())
				}
				time.Sleep(3*test.lease - time.Second)
				bad := map[int64]bool{}
				for _, id := range test.bad {
					bad[id] = true
				}
				require.Positive(t, env.logs.count(fmt.Sprintf("ids=%v", test.bad[:min(len(test.bad), 10)])), "they are named")
				for _, msg := range all {
					require.Equal(t, bad[c.tokenOf(msg).ID], msg.Context().Err() != nil, msg.UUID)
				}
				c.clearFaults()
				for _, msg := range all {
					c.ack(msg)
				}
				for range test.bad {
					c.ack(c.receive())
				}
			})
		})
	}
}

// A call for others has ended as the lease does. The pause after it is for those that it may still have locked.
func TestExtender_EndsALeaseInTimeAfterASilentCall(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.MaxInFlight = 101 // so that it does not claim the message itself, which would end the lease, too
		env.store.publish(1)
		c := env.subscribe()
		begin := time.Now()
		first := c.receive()
		c.mu.Lock()
		c.faultOf = func(call call) fault {
			switch {
			case call.method != extending:
				return fault{}
			case call.concerns(1):
				return fault{err: &subscription.Refusal{Cause: errRefused}}
			default:
				return fault{wait: hang}
			}
		}
		c.mu.Unlock()
		time.Sleep(lease/2 + time.Second) // the others are due when the first has less left than a call may take
		env.store.publish(100)
		var others []*message.Message
		for range 100 {
			others = append(others, c.receive())
		}
		requireLost(t, first)
		require.Equal(t, lease, time.Since(begin))
		c.clearFaults()
		c.ack(c.receive())
		for _, msg := range others {
			c.ack(msg)
		}
	})
}

func TestExtender_DoesNotSearchWhileTheStoreIsOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.store.publish(10)
		c := env.subscribe()
		c.inject(fault{err: errStore}, extending)
		for range 10 {
			defer c.ack(c.receive())
		}
		time.Sleep(lease/3 + 10*time.Second)
		require.LessOrEqual(t, len(c.callsOf(extending)), 12, "one a second")
		c.clearFaults()
	})
}
