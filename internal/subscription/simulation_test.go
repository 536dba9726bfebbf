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

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/subscription"
)

// Everything at once, at random: subscriptions that start and end, handlers that
// succeed, fail, hang and are late, a store that does whatever a store may do.
// When all of it is over, every message must be settled, and the ledger must not
// tell of a broken promise.
func TestSimulation(t *testing.T) {
	t.Parallel()
	var held, leased, broken atomic.Int64
	t.Cleanup(func() {
		if *onlySeed > 0 {
			return
		}
		t.Logf("%d messages were held, %d of them leased afterwards, %d lost with their holds", held.Load(), leased.Load(), broken.Load())
		require.Positive(t, held.Load()*leased.Load()*broken.Load(), "the schedules leave something untried")
	})
	simulate(t, func(t *testing.T, seed int) {
		w := newWorld(t, seed)
		w.run()
		for _, d := range newStory(w.store.read(), 0).deliveries {
			count := func(n *atomic.Int64, is bool) {
				if is {
					n.Add(1)
				}
			}
			count(&held, d.claimed.held)
			count(&leased, d.leased != nil)
			count(&broken, d.claimed.held && d.leased == nil && d.expired != nil)
		}
	})
}

// world is one run of the simulation.
type world struct {
	*rig
	seed    int
	faults  float64 // the share of calls to the store that do not work
	attacks float64 // by others who use the store, per second
	latency bool
	polled  bool
	brisk   bool          // handlers are done at once, mostly
	calm    chan struct{} // closed when nothing goes wrong any more

	running sync.WaitGroup
}

func newWorld(t *testing.T, seed int) *world {
	t.Helper()
	w := &world{rig: newRig(t), seed: seed, calm: make(chan struct{})}
	dice := w.dice("world")
	w.faults = pick(dice, 0, 0, 0.02, 0.1, 0.4)
	w.attacks = pick(dice, 0, 0, 0.01, 0.1)
	w.latency = dice.IntN(2) == 0
	w.polled = dice.IntN(2) == 0
	w.config.MaxInFlight = 1 + dice.IntN(6)
	w.config.MaxPrefetch = pick(dice, 0, 10)
	w.config.MaxExtension = pick(dice, lease/10, 2*time.Minute, time.Hour)
	w.config.DrainTimeout = pick(dice, time.Second, drain, time.Minute)
	w.config.Linger = pick(dice, 0, 5*time.Millisecond)
	if w.polled {
		w.config.PollMin, w.config.PollMax = pollMin, pollMax
	}
	w.config.SyncAck = dice.IntN(4) == 0
	if w.dice("odd").IntN(2) == 0 {
		w.store.refuseIf(w.isOdd)
		w.store.mayPass.Store(w.dice("may pass").IntN(2) == 0)
	}
	if dice := w.dice("hold"); dice.IntN(2) == 0 {
		w.config.HoldFor = pick(dice, 50*time.Millisecond, longestHold)
		w.brisk = dice.IntN(2) == 0
	}
	return w
}

// isOdd is whether the store refuses an outcome, until all is calm.
func (w *world) isOdd(outcome subscription.Settlement) bool {
	select {
	case <-w.calm:
		return false
	default:
	}
	switch outcome.Action {
	case subscription.Ack:
		return outcome.ID%11 == 3
	case subscription.Nack:
		return outcome.ID%7 == 2 && (!outcome.Bare || outcome.ID%2 == 0)
	case subscription.DeadLetter:
		return outcome.ID%5 == 1 && (!outcome.Bare || outcome.ID%2 == 0)
	default:
		return outcome.ID%13 == 5
	}
}

// dice returns the randomness for one purpose. It depends on the seed and on
// nothing else, whatever happens in the meantime.
func (w *world) dice(purpose ...any) *rand.Rand {
	hash := fnv.New64a()
	_, _ = fmt.Fprintln(hash, purpose...)
	return rand.New(rand.NewPCG(uint64(w.seed), hash.Sum64()))
}

func pick[T any](dice *rand.Rand, choices ...T) T { return choices[dice.IntN(len(choices))] }

// between returns a random duration, or one of the two, where things coincide.
func between(dice *rand.Rand, from, to time.Duration) time.Duration {
	random := from + time.Duration(dice.Int64N(int64(to-from+1)))
	return pick(dice, from, to, random, random, random)
}

func (w *world) run() {
	w.t.Helper()
	dice := w.dice("run")
	w.running.Go(w.publishAll)
	w.running.Go(w.attack)
	w.running.Go(w.lockSome)
	w.running.Go(w.refuseAcks)
	for slot := range 1 + dice.IntN(3) {
		w.running.Go(func() { w.serve(slot) })
	}
	w.live(between(dice, time.Minute, 5*time.Minute), 0)
	w.finish()
	w.requirePromises()
}

// live lets the world go on for d, and come to rest. What handlers do that outlive
// their subscriptions takes longer, until late.
func (w *world) live(d, late time.Duration) {
	time.Sleep(d)
	close(w.calm)
	w.running.Wait()
	time.Sleep(late)
}

// finish has a subscription without a worry settle what is left.
func (w *world) finish() {
	last := newRun(w, "last")
	last.begin()
	for deadline := time.Now().Add(time.Hour); len(w.store.ids()) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Second)
	}
	last.set.Close()
	last.reading.Wait()
	synctest.Wait()
	if len(w.store.ids()) > 0 {
		w.t.Errorf("messages %v are never settled", w.store.ids())
	}
	w.requireAccounts()
	w.requireNothingHeld()
}

// requireAccounts checks that every message was acked or became a dead letter once,
// unless it was removed.
func (w *world) requireAccounts() {
	w.t.Helper()
	ends := map[int64]int{}
	for _, e := range w.store.read() {
		switch {
		case e.kind == published:
			ends[e.token.ID] += 0
		case e.kind == removed, e.kind == settled && e.result == accepted && (e.action == subscription.Ack || e.action == subscription.DeadLetter):
			ends[e.token.ID]++
		}
	}
	for id, n := range ends {
		if n != 1 {
			w.t.Errorf("message %d was settled %d times", id, n)
		}
	}
	require.NotEmpty(w.t, ends)
}

// over waits for d. It returns true if the world has come to rest before that.
func (w *world) over(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-w.calm:
		return true
	}
}

func (w *world) publishAll() {
	dice := w.dice("publish")
	for range 3 + dice.IntN(10) {
		if dice.IntN(5) == 0 {
			w.store.publishDelayed(1+dice.IntN(3), between(dice, 0, time.Minute))
		} else {
			w.store.publish(1 + dice.IntN(8))
		}
		if w.over(between(dice, 0, 20*time.Second)) {
			return
		}
	}
}

// attack does what a subscription cannot know of: it takes leases away, and
// messages.
func (w *world) attack() {
	if w.attacks == 0 {
		return
	}
	dice := w.dice("attack")
	for n := 0; !w.over(time.Duration(dice.ExpFloat64() / w.attacks * float64(time.Second))); n++ {
		ids := w.store.ids()
		if len(ids) == 0 {
			continue
		}
		switch id := pick(dice, ids...); dice.IntN(5) {
		case 0:
			w.store.remove(id)
		case 1, 2:
			w.store.expire(id)
		default:
			w.running.Go(func() { w.compete(id, n) })
		}
	}
}

// lockSome locks messages for a while, as others do who have a transaction open.
func (w *world) lockSome() {
	dice := w.dice("locks")
	if dice.IntN(2) == 0 {
		return
	}
	for !w.over(time.Duration(dice.ExpFloat64() * 10 * float64(time.Second))) {
		if ids := w.store.ids(); len(ids) > 0 {
			w.store.lockFor(pick(dice, ids...), between(dice, 0, pick(dice, time.Second, 2*lease)))
		}
	}
}

// refuseAcks refuses all acks for a while, as where the archive that they go to is gone.
func (w *world) refuseAcks() {
	dice := w.dice("acks")
	if dice.IntN(4) > 0 {
		return
	}
	defer w.store.noAcks.Store(false)
	for !w.over(between(dice, 0, time.Minute)) {
		w.store.noAcks.Store(!w.store.noAcks.Load())
	}
}

// compete is another consumer, which has nothing to do with this process.
func (w *world) compete(id int64, n int) {
	dice := w.dice("compete", n)
	token := w.store.steal(id, between(dice, 0, time.Minute))
	time.Sleep(between(dice, 0, time.Minute))
	if action := dice.IntN(4); action < 3 && token.ID != 0 {
		w.store.settle(competitor, subscription.Settlement{
			Token: token, Action: pick(dice, subscription.Ack, subscription.Nack, subscription.Release),
		})
	}
}

// plan decides what goes wrong with the calls of one subscription.
func (w *world) plan(who string) func(call) fault {
	n := 0
	return func(c call) (f fault) {
		n++
		dice := w.dice("call", who, c.method, n)
		if w.latency {
			f.wait, f.reply = time.Duration(dice.Int64N(int64(latency/10))), time.Duration(dice.Int64N(int64(latency/10)))
		}
		select {
		case <-w.calm:
			return f
		default:
		}
		if dice.Float64() >= w.faults {
			return f
		}
		return pick(
			dice, fault{err: errStore}, fault{lost: errStore}, fault{wait: hang}, fault{reply: hang},
			fault{wait: between(dice, 0, 2*operation)}, fault{reply: between(dice, 0, 2*operation)},
			fault{wait: f.wait, lost: errStore, reply: f.reply},
		)
	}
}
