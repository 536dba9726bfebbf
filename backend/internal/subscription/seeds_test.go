package subscription_test

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

var (
	seeds    = flag.Int("sim.seeds", 100, "how many random schedules each simulation runs; the gate runs 5000")
	onlySeed = flag.Int("sim.seed", 0, "the only schedule that each simulation runs; 0 for all")
)

// seedsThatFoundBugs always run, in each simulation. What goroutines do at the same
// instant is not up to the seed, so a seed may need a few runs to find its bug again.
func seedsThatFoundBugs() []int {
	return []int{
		301, 1010, // one message was both delivered and released
		489, 500, // an extension came after a nack, and undid its delay
		734, 1538, // a lease was taken for one of the same number that was lost
		816, 2317, // a message whose lock was lost was locked again, and handed over uncounted a second time
		123,   // a message whose lock was lost was leased and released, which removes what is left of the lock
		7, 10, // a message that could not be leased after its lock kept its slot for ever
		18, 20, // fetching stopped again for each of several slow acks
		29,            // acked messages were left in the store at the end, after slow acks
		961,           // a lease ended too late, while the extender paused after a silent call
		86, 842, 1016, // a handler began after the lease of its event was lost while that waited
	}
}

// simulate runs f once for each seed, each in virtual time, and says which have
// failed, and how to run those again.
func simulate(t *testing.T, f func(t *testing.T, seed int)) {
	t.Helper()
	var (
		mu     sync.Mutex
		failed []int
	)
	t.Cleanup(func() {
		if len(failed) > 0 {
			slices.Sort(failed)
			t.Errorf("failing seeds: %v\nagain: go test -race ./backend/internal/subscription -run '%s$' -count=20 -sim.seed=%d",
				failed, t.Name(), failed[0])
		}
	})
	for _, seed := range chosenSeeds() {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, seed)
				}
			})
			synctest.Test(t, func(t *testing.T) { f(t, seed) })
		})
	}
}

func chosenSeeds() []int {
	if *onlySeed > 0 {
		return []int{*onlySeed}
	}
	chosen := seedsThatFoundBugs()
	for n := range *seeds {
		chosen = append(chosen, n+1)
	}
	return chosen
}
