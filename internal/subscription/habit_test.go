package subscription_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

// handleSome receives the messages of one publish. All but the last late ones are acked
// at once, and those after took.
func (c *consumer) handleSome(r *rig, all, late int, took time.Duration) {
	c.t.Helper()
	r.store.publish(all)
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

// heldMessages returns how many messages were held so far.
func (r *rig) heldMessages() (n int) {
	for _, e := range r.store.read(claimed) {
		if e.held {
			n++
		}
	}
	return n
}

func TestHoldingBeginsWhenNineOfTenAreAckedSoon(t *testing.T) {
	for name, test := range map[string]struct {
		late   int // one of so many,
		took   time.Duration
		begins bool
	}{
		"which is not where every other one is late":   {late: 2, took: 2 * holdFor},
		"nor where one of six is":                      {late: 6, took: 2 * holdFor},
		"but where one of sixteen is":                  {late: 16, took: 2 * holdFor, begins: true},
		"soon is in less than half the time of a hold": {late: 1, took: holdFor/2 - 1, begins: true},
		"and not in half of it":                        {late: 1, took: holdFor / 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.config.HoldFor = holdFor
				c := r.subscribe()
				for n := 0; n < 96 && r.heldMessages() == 0; n++ {
					late := 0
					if n%test.late == 0 {
						late = 1
					}
					c.handleSome(r, 1, late, test.took)
				}
				require.Equal(t, test.begins, r.heldMessages() > 0)
			})
		})
	}
}

// What waits for longer than its hold lasts is leased after all.
func TestLessIsClaimedAheadWhereItIsHeld(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.config.HoldFor, r.config.MaxInFlight, r.config.MaxPrefetch = holdFor, 2, 100
		r.store.publish(1000)
		c := r.subscribe()
		for range 500 {
			msg := c.receive()
			time.Sleep(time.Millisecond)
			c.ack(msg)
		}
		require.Positive(t, r.heldMessages())
		const leased = 50 // a message each millisecond: see TestPrefetch
		require.Less(t, mostHeld(r.store.read()), leased-leased/5)
	})
}

func TestHoldingGoesOnWhileSevenOfTenAreAckedSoon(t *testing.T) {
	for name, test := range map[string]struct{ late, holds int }{
		"for ever if one of eight is late":          {late: 1, holds: 20},
		"for a second time if two of eight are":     {late: 2, holds: 2},
		"not for a second time if half of them are": {late: 4, holds: 1},
		"nor if all of them are":                    {late: 8, holds: 1},
	} {
		t.Run(name, func(t *testing.T) {
			holdingBubble(t, func(t *testing.T, r *rig, c *consumer) {
				for range 20 {
					c.handleSome(r, 8, test.late, 2*holdFor)
				}
				require.Equal(t, 8*test.holds, r.heldMessages())
			})
		})
	}
}
