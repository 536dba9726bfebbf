package subscription_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

// handleBatch receives the messages of one publish. All but the last late ones are acked
// at once, and those after took.
func (c *consumer) handleBatch(env *environment, all, late int, took time.Duration) {
	c.t.Helper()
	env.store.publish(all)
	messages := make([]*message.Message, 0, all)
	for range all {
		messages = append(messages, c.receive())
	}
	for i, msg := range messages {
		if i == all-late {
			time.Sleep(took)
		}
		c.ack(msg)
	}
	time.Sleep(time.Second)
}

// lockedMessages returns how many messages were locked so far.
func (env *environment) lockedMessages() (n int) {
	for _, e := range env.store.recorded(claimed) {
		if e.locked {
			n++
		}
	}
	return n
}

func TestLocking_BeginsAtNineOfTenAckedSoon(t *testing.T) {
	for name, test := range map[string]struct {
		late   int // one of so many,
		took   time.Duration
		begins bool
	}{
		"locking does not begin where every other ack is late": {late: 2, took: 2 * lockFor},
		"locking does not begin where one of six acks is late": {late: 6, took: 2 * lockFor},
		"locking begins where one of sixteen acks is late":     {late: 16, took: 2 * lockFor, begins: true},
		"an ack in less than half the time of a lock is soon":  {late: 1, took: lockFor/2 - 1, begins: true},
		"an ack in half the time of a lock is not soon":        {late: 1, took: lockFor / 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, env *environment) {
				env.config.LockFor = lockFor
				c := env.subscribe()
				for n := 0; n < 96 && env.lockedMessages() == 0; n++ {
					late := 0
					if n%test.late == 0 {
						late = 1
					}
					c.handleBatch(env, 1, late, test.took)
				}
				require.Equal(t, test.begins, env.lockedMessages() > 0)
			})
		})
	}
}

// A message that waits for longer than its lock lasts is leased after all.
func TestPrefetch_IsSmallerWhileLocking(t *testing.T) {
	bubble(t, func(t *testing.T, env *environment) {
		env.config.LockFor, env.config.MaxInFlight, env.config.MaxPrefetch = lockFor, 2, 100
		env.store.publish(1000)
		c := env.subscribe()
		for range 500 {
			msg := c.receive()
			time.Sleep(time.Millisecond)
			c.ack(msg)
		}
		require.Positive(t, env.lockedMessages())
		const leased = 50 // a message each millisecond: see TestPrefetch_FollowsConsumerSpeed
		require.Less(t, mostClaimed(env.store.recorded()), leased-leased/5)
	})
}

func TestLocking_ContinuesAtSevenOfTenAckedSoon(t *testing.T) {
	for name, test := range map[string]struct{ late, batches int }{
		"locking continues for ever if one of eight acks is late":            {late: 1, batches: 20},
		"locking continues for a second batch if two of eight acks are late": {late: 2, batches: 2},
		"locking ends after one batch if half of the acks are late":          {late: 4, batches: 1},
		"locking ends after one batch if all acks are late":                  {late: 8, batches: 1},
	} {
		t.Run(name, func(t *testing.T) {
			lockingBubble(t, func(t *testing.T, env *environment, c *consumer) {
				for range 20 {
					c.handleBatch(env, 8, test.late, 2*lockFor)
				}
				require.Equal(t, 8*test.batches, env.lockedMessages())
			})
		})
	}
}
