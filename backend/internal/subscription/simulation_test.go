package subscription_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// Everything at once, at random: subscriptions that start and end, handlers that
// succeed, fail, hang and are late, a store that does whatever a store may do.
// When all of it is over, every message must be settled, and the ledger must not
// show a broken promise.
func TestSubscription_KeepsPromisesInSimulation(t *testing.T) {
	t.Parallel()
	var locked, leased, broken atomic.Int64
	t.Cleanup(func() {
		if *onlySeed > 0 {
			return
		}
		t.Logf("%d messages were locked, %d of them leased afterwards, %d lost with their locks", locked.Load(), leased.Load(), broken.Load())
		// require would end the cleanup, and the test would fail without a report.
		assert.Positive(t, locked.Load()*leased.Load(), "the schedules leave something untried")
		if *seeds >= 1000 { // of a hundred schedules, one in five runs has lost no lock
			assert.Positive(t, broken.Load(), "no schedule has lost a lock")
		}
	})
	simulate(t, func(t *testing.T, seed int) {
		sim := newSimulation(t, seed)
		sim.run()
		for _, d := range newHistory(sim.store.recorded(), 0).deliveries {
			count := func(n *atomic.Int64, is bool) {
				if is {
					n.Add(1)
				}
			}
			count(&locked, d.claimed.locked)
			count(&leased, d.leased != nil)
			count(&broken, d.claimed.locked && d.leased == nil && d.expired != nil)
		}
	})
}

// simulation is one run, with one seed.
type simulation struct {
	*environment
	seed         int
	faults       float64 // the share of calls to the store that do not work
	interference float64 // by others that use the store, per second
	latency      bool
	polled       bool
	fastHandlers bool          // handlers are done at once, mostly
	calmed       chan struct{} // closed when nothing goes wrong any more

	running sync.WaitGroup
}

func newSimulation(t *testing.T, seed int) *simulation {
	t.Helper()
	sim := &simulation{environment: newEnvironment(t), seed: seed, calmed: make(chan struct{})}
	rng := sim.rng("world")
	sim.faults = pick(rng, 0, 0, 0.02, 0.1, 0.4)
	sim.interference = pick(rng, 0, 0, 0.01, 0.1)
	sim.latency = rng.IntN(2) == 0
	sim.polled = rng.IntN(2) == 0
	sim.config.MaxInFlight = 1 + rng.IntN(6)
	sim.config.MaxPrefetch = pick(rng, 0, 10)
	sim.config.MaxExtension = pick(rng, lease/10, 2*time.Minute, time.Hour)
	sim.config.DrainTimeout = pick(rng, time.Second, drain, time.Minute)
	sim.config.Linger = pick(rng, 0, 5*time.Millisecond)
	if sim.polled {
		sim.config.PollMin, sim.config.PollMax = pollMin, pollMax
	}
	sim.config.SyncAck = rng.IntN(4) == 0
	if sim.rng("odd").IntN(2) == 0 {
		sim.store.refuseIf(sim.refuses)
		sim.store.transient.Store(sim.rng("may pass").IntN(2) == 0)
	}
	if rng := sim.rng("hold"); rng.IntN(2) == 0 {
		sim.config.LockFor = pick(rng, 50*time.Millisecond, longestLock)
		sim.fastHandlers = rng.IntN(2) == 0
	}
	return sim
}

// refuses reports whether the store refuses a settlement, until all is calm.
func (sim *simulation) refuses(settlement subscription.Settlement) bool {
	select {
	case <-sim.calmed:
		return false
	default:
	}
	switch settlement.Action {
	case subscription.Ack:
		return settlement.ID%11 == 3
	case subscription.Nack:
		return settlement.ID%7 == 2 && (!settlement.Bare || settlement.ID%2 == 0)
	case subscription.DeadLetter:
		return settlement.ID%5 == 1 && (!settlement.Bare || settlement.ID%2 == 0)
	default:
		return settlement.ID%13 == 5
	}
}

// rng returns the random numbers for one purpose. They depend on the seed and on the text of
// the purpose, and on nothing else: to change the text is to change what each seed does.
func (sim *simulation) rng(purpose ...any) *rand.Rand {
	hash := fnv.New64a()
	_, _ = fmt.Fprintln(hash, purpose...)
	return rand.New(rand.NewPCG(uint64(sim.seed), hash.Sum64()))
}

func pick[T any](rng *rand.Rand, choices ...T) T { return choices[rng.IntN(len(choices))] }

// between returns a random duration, or one of the two, where things coincide.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	random := from + time.Duration(rng.Int64N(int64(to-from+1)))
	return pick(rng, from, to, random, random, random)
}

func (sim *simulation) run() {
	sim.t.Helper()
	rng := sim.rng("run")
	sim.running.Go(sim.publishAll)
	sim.running.Go(sim.interfere)
	sim.running.Go(sim.lockSome)
	sim.running.Go(sim.refuseAcks)
	sim.running.Go(sim.pauseTopic)
	for slot := range 1 + rng.IntN(3) {
		sim.running.Go(func() { sim.runConsumers(slot) })
	}
	sim.runFor(between(rng, time.Minute, 5*time.Minute), 0)
	sim.finish()
	sim.requirePromises()
}

// runFor lets the simulation go on for d, and come to rest. Handlers that outlive
// their subscriptions take longer, until late.
func (sim *simulation) runFor(d, late time.Duration) {
	time.Sleep(d)
	close(sim.calmed)
	sim.running.Wait()
	time.Sleep(late)
}

// finish has a subscription without faults settle what is left.
func (sim *simulation) finish() {
	last := newSimulatedConsumer(sim, "last")
	last.begin()
	for deadline := time.Now().Add(time.Hour); len(sim.store.ids()) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Second)
	}
	last.subscriptions.Close()
	last.reading.Wait()
	synctest.Wait()
	if len(sim.store.ids()) > 0 {
		sim.t.Errorf("messages %v are never settled", sim.store.ids())
	}
	sim.requireEachSettledOnce()
	sim.assertNothingCounted()
}

// requireEachSettledOnce checks that every message was acked or became a dead letter once,
// unless it was removed.
func (sim *simulation) requireEachSettledOnce() {
	sim.t.Helper()
	ends := map[int64]int{}
	for _, e := range sim.store.recorded() {
		switch {
		case e.kind == published:
			ends[e.token.ID] += 0
		case e.kind == removed, e.kind == settled && e.result == accepted && (e.action == subscription.Ack || e.action == subscription.DeadLetter):
			ends[e.token.ID]++
		}
	}
	for id, n := range ends {
		if n != 1 {
			sim.t.Errorf("message %d was settled %d times", id, n)
		}
	}
	require.NotEmpty(sim.t, ends)
}

// sleepUnlessCalmed waits for d. It returns true if all is calm before that.
func (sim *simulation) sleepUnlessCalmed(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-sim.calmed:
		return true
	}
}

func (sim *simulation) publishAll() {
	rng := sim.rng("publish")
	for range 3 + rng.IntN(10) {
		if rng.IntN(5) == 0 {
			sim.store.publishDelayed(1+rng.IntN(3), between(rng, 0, time.Minute))
		} else {
			sim.store.publish(1 + rng.IntN(8))
		}
		if sim.sleepUnlessCalmed(between(rng, 0, 20*time.Second)) {
			return
		}
	}
}

// interfere does what a subscription cannot know of: it takes leases away, and
// messages.
func (sim *simulation) interfere() {
	if sim.interference == 0 {
		return
	}
	rng := sim.rng("attack")
	for n := 0; !sim.sleepUnlessCalmed(time.Duration(rng.ExpFloat64() / sim.interference * float64(time.Second))); n++ {
		ids := sim.store.ids()
		if len(ids) == 0 {
			continue
		}
		switch id := pick(rng, ids...); rng.IntN(5) {
		case 0:
			if n%2 == 0 {
				sim.store.cancel(id)
			} else {
				sim.store.remove(id)
			}
		case 1, 2:
			sim.store.expire(id)
		default:
			sim.running.Go(func() { sim.compete(id, n) })
		}
	}
}

// lockSome locks messages for a while, as open transactions of others do.
func (sim *simulation) lockSome() {
	rng := sim.rng("locks")
	if rng.IntN(2) == 0 {
		return
	}
	for !sim.sleepUnlessCalmed(time.Duration(rng.ExpFloat64() * 10 * float64(time.Second))) {
		if ids := sim.store.ids(); len(ids) > 0 {
			sim.store.lockFor(pick(rng, ids...), between(rng, 0, pick(rng, time.Second, 2*lease)))
		}
	}
}

// refuseAcks refuses all acks for a while, as where the archive that they go to is gone.
func (sim *simulation) refuseAcks() {
	rng := sim.rng("acks")
	if rng.IntN(4) > 0 {
		return
	}
	defer sim.store.refusesAcks.Store(false)
	for !sim.sleepUnlessCalmed(between(rng, 0, time.Minute)) {
		sim.store.refusesAcks.Store(!sim.store.refusesAcks.Load())
	}
}

// pauseTopic pauses the topic for a while, and again.
func (sim *simulation) pauseTopic() {
	rng := sim.rng("pauses")
	if rng.IntN(3) > 0 {
		return
	}
	defer sim.store.setPaused(false)
	for !sim.sleepUnlessCalmed(between(rng, 0, time.Minute)) {
		sim.store.setPaused(true)
		if sim.sleepUnlessCalmed(between(rng, 0, pick(rng, time.Second, 2*lease))) {
			return
		}
		sim.store.setPaused(false)
	}
}

// compete is another consumer, which has nothing to do with this process.
func (sim *simulation) compete(id int64, n int) {
	rng := sim.rng("compete", n)
	token := sim.store.steal(id, between(rng, 0, time.Minute))
	time.Sleep(between(rng, 0, time.Minute))
	if action := rng.IntN(4); action < 3 && token.ID != 0 {
		sim.store.settle(competitor, subscription.Settlement{
			Token: token, Action: pick(rng, subscription.Ack, subscription.Nack, subscription.Release),
		})
	}
}

// faultsOf decides what goes wrong with the calls of one subscription.
func (sim *simulation) faultsOf(subscriber string) func(call) fault {
	n := 0
	return func(c call) (f fault) {
		n++
		rng := sim.rng("call", subscriber, c.method, n)
		if sim.latency {
			f.wait, f.reply = time.Duration(rng.Int64N(int64(latency/10))), time.Duration(rng.Int64N(int64(latency/10)))
		}
		select {
		case <-sim.calmed:
			return f
		default:
		}
		if rng.Float64() >= sim.faults {
			return f
		}
		return pick(
			rng, fault{err: errStore}, fault{lost: errStore}, fault{wait: hang}, fault{reply: hang},
			fault{wait: between(rng, 0, 2*operation)}, fault{reply: between(rng, 0, 2*operation)},
			fault{wait: f.wait, lost: errStore, reply: f.reply},
		)
	}
}
