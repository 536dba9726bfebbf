package conformance_test

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
)

// mutant is a backend that is broken on purpose, in one way.
type mutant struct {
	name     string   // what it does
	breaks   string   // the promise that it breaks
	killedBy []string // the titles of cases that notice; others may, too
	fault    fault
}

// mutants returns all of them, theme by theme.
func mutants() []mutant {
	return slices.Concat(
		payloadMutants(), metadataMutants(), identityMutants(), publishMutants(), topicMutants(), ackMutants(), recordMutants(),
		delayMutants(), leaseMutants(), orderMutants(), contextMutants(), stopMutants(), lifecycleMutants(),
		groupMutants(), patternMutants(), transactionMutants(), deadLetterMutants(), tickMutants(), conditionMutants(), selectionMutants(), letterStoreMutants(), pauseMutants(), groupPauseMutants(), inspectionMutants(), peekMutants(), featureMutants(),
	)
}

// mutantLimit is how long a case may take on a mutant, in real time. None hangs: the slowest take seconds, and
// ten times as long on a busy machine, where each look for leaked goroutines waits for its turn.
const mutantLimit = 5 * time.Minute

var matrix = flag.Bool("matrix", false, "try every case on every mutant, and list those that notice, which takes minutes")

func TestRun_PassesFlawlessBackend(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openFaulty(fault{}), everyPromise(), conformance.VirtualTime())
}

func TestRun_PassesUnmutatedRelay(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openFaulty(fault{interception: interception{relayed: true}}), everyPromise(), conformance.VirtualTime())
}

// Some mutants break groups or patterns, which this broker has as they should be.
func TestRun_PassesBrokerWithOwnGroups(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openFaulty(fault{ownGroups: true}), everyPromise(), conformance.VirtualTime(), conformance.Only(func(c conformance.Case) bool {
		return c.Theme == "groups" || c.Theme == "patterns"
	}))
}

func TestMutant_IsKilledByNamedCases(t *testing.T) {
	t.Parallel()
	cases := casesByTitle()
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			require.NotEmpty(t, m.killedBy)
			for _, title := range m.killedBy {
				c, ok := cases[title]
				require.True(t, ok, "there is no case %q", title)
				start := time.Now()
				r := conformance.RunCase(t, openFaulty(m.fault), everyPromise(), c, conformance.Timeout(mutantLimit))
				if r.Outcome == conformance.Failed {
					t.Logf("%s (%v): %s", title, time.Since(start).Round(time.Millisecond), r.Failure)
				} else {
					t.Errorf("it survives the case %q", title)
				}
			}
		})
	}
}

func TestCase_KillsMutant(t *testing.T) {
	t.Parallel()
	kills := map[string]int{}
	for _, m := range mutants() {
		for _, title := range m.killedBy {
			kills[title]++
		}
	}
	for _, c := range conformance.Cases() {
		if kills[c.Title()] == 0 {
			t.Errorf("the case %q kills no mutant", c.Title())
		}
	}
}

func TestMutant_HasUniqueName(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range mutants() {
		require.False(t, names[m.name], "two mutants are called %q", m.name)
		names[m.name] = true
		require.NotEmpty(t, m.breaks, m.name)
	}
}

// TestMutant_IsListedWithCasesThatNotice lists for each mutant which cases notice it.
func TestMutant_IsListedWithCasesThatNotice(t *testing.T) {
	t.Parallel()
	if !*matrix {
		t.Skip("it tries every case on every mutant: run it with -matrix")
	}
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range conformance.Cases() {
				start := time.Now()
				r := conformance.RunCase(t, openFaulty(m.fault), everyPromise(), c, conformance.Timeout(mutantLimit))
				if r.Outcome == conformance.Failed {
					t.Logf("%s (%v): %s", c.Title(), time.Since(start).Round(time.Millisecond), r.Failure)
				}
			}
		})
	}
}

func casesByTitle() map[string]conformance.Case {
	cases := map[string]conformance.Case{}
	for _, c := range conformance.Cases() {
		cases[c.Title()] = c
	}
	return cases
}
