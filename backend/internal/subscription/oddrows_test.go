package subscription_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A store that takes too long for the outcomes of some messages, or refuses them, or leaves their rows as they are:
// the others must flow, none of them may be handled twice, and at any end all of their outcomes are stored.
func TestOddRows_HoldUpNoOthersInSimulation(t *testing.T) {
	t.Parallel()
	simulate(t, func(t *testing.T, seed int) {
		sim := newSimulation(t, seed)
		newOddRows(sim).run()
	})
}

// oddRows is one run in which nothing is wrong but some rows.
type oddRows struct {
	*simulation
	rng       *rand.Rand
	slow      []int64
	unchanged []int64
	consumer  *consumer
}

func newOddRows(sim *simulation) *oddRows {
	rng := sim.rng("odd rows")
	sim.faults, sim.polled = 0, true
	sim.config.PollMin, sim.config.PollMax = pollMin, pollMax
	sim.store.refuseIf(nil)
	sim.config.MaxInFlight, sim.config.MaxPrefetch = pick(rng, 4, 20, 100), pick(rng, 0, 100)
	sim.config.MaxExtension, sim.config.Lease = time.Hour, lease
	sim.config.SyncAck, sim.config.LockFor = rng.IntN(4) == 0, pick(rng, 0, 0, lockFor)
	sim.config.Linger = pick(rng, 0, 5*time.Millisecond)
	return &oddRows{simulation: sim, rng: rng}
}

// oddIDs returns the ids of n messages that come within some seconds, after the first ones.
func (o *oddRows) oddIDs(n int) (ids []int64) {
	for range n {
		ids = append(ids, 20+o.rng.Int64N(100))
	}
	return ids
}

func (o *oddRows) run() {
	o.slow = o.oddIDs(pick(o.rng, 0, 1, 2, 3, 5, 12))
	if o.rng.IntN(3) == 0 {
		o.unchanged = o.oddIDs(o.rng.IntN(2 * o.config.MaxInFlight))
	}
	o.store.leaveUnchanged(func(id int64) bool { return slices.Contains(o.unchanged, id) })
	view := o.store.viewOf("A")
	view.polled = true
	view.slowFor(o.slow...)
	o.consumer = o.start(o.t.Context(), view)
	o.running.Go(o.handleAll)
	o.publishAll()
	time.Sleep(between(o.rng, 0, 30*time.Second))
	end := time.Now()
	o.subscriptions.Close()
	o.running.Wait()
	o.requireFlow(end)
	o.assertNothingCounted()
}

func (o *oddRows) handleAll() {
	for msg := range o.consumer.messages {
		o.consumer.recordReceived(msg)
		if !slices.Contains(o.unchanged, o.consumer.tokenOf(msg).ID) {
			o.consumer.ack(msg)
			continue
		}
		o.running.Go(func() {
			time.Sleep(2 * lockFor) // so that it is leased meanwhile, or would be
			o.consumer.ack(msg)
		})
	}
	o.consumer.record(event{kind: closed, subscriber: "A"})
}

// publishAll publishes many messages at once, or 20 per second, or both, until the odd ones are among them.
func (o *oddRows) publishAll() {
	how := o.rng.IntN(3)
	if how > 0 {
		o.store.publish(150)
	}
	if how > 1 {
		return
	}
	for range 120 + 20*o.rng.IntN(8) {
		o.store.publish(1)
		time.Sleep(50 * time.Millisecond)
	}
}

// longestWait is how long a message that is not odd may wait to be handled.
func (o *oddRows) longestWait() time.Duration {
	const lockCooldown = 10 * time.Second
	switch {
	case o.config.SyncAck: // each slow one may keep all slots, until it is known which it is
		return 2*operation + time.Duration(len(o.slow))*3*time.Second
	case o.config.LockFor > 0 && len(o.slow)*len(o.unchanged) > 0: // what is locked is neither stored nor leased
		return operation + lockCooldown + time.Second
	case o.config.LockFor > 0: // two locks may take too long to end, one after the other
		return 2 * operation
	default:
		return operation + 2*time.Second
	}
}

// requireFlow requires what is promised of messages that are not odd. No more was handed over after end.
func (o *oddRows) requireFlow(end time.Time) {
	o.t.Helper()
	came, handledAt := map[int64]time.Time{}, map[int64][]time.Time{}
	for _, e := range o.store.recorded(published, handed) {
		if e.kind == published {
			came[e.token.ID] = e.at
		} else {
			handledAt[e.token.ID] = append(handledAt[e.token.ID], e.at)
		}
	}
	var worst time.Duration
	for id, since := range came {
		at := append(handledAt[id], end)
		if !o.isOdd(id) {
			worst = max(worst, at[0].Sub(since))
		}
		if !o.isOdd(id) && o.config.LockFor == 0 {
			require.LessOrEqual(o.t, len(at), 2, "message %d", id)
		}
	}
	assert.LessOrEqual(o.t, worst, o.longestWait(), "%v slow, %v unchanged, %+v", o.slow, o.unchanged, o.config)
	left := slices.DeleteFunc(o.store.ids(), func(id int64) bool { return o.isOdd(id) || len(handledAt[id]) == 0 })
	assert.Empty(o.t, left, "the outcomes of these messages are not stored")
	o.requirePromises()
}

func (o *oddRows) isOdd(id int64) bool {
	return slices.Contains(o.slow, id) || slices.Contains(o.unchanged, id)
}
