package work

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/bench/contender"
)

func TestAudit_NamesMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handled []int
		left    contender.Count
		wrong   string
	}{
		"all is well":                    {[]int{0, 1, 2, 3}, contender.Count{}, ""},
		"some wait":                      {[]int{0, 2}, contender.Count{Messages: 2, Distinct: 2}, ""},
		"some wait that are not acked":   {[]int{0, 2, 3}, contender.Count{Messages: 2, Distinct: 2}, ""},
		"one is gone":                    {[]int{0, 2}, contender.Count{Messages: 1, Distinct: 1}, "lost 1 of 4"},
		"one is there twice":             {[]int{0, 2}, contender.Count{Messages: 2, Distinct: 1}, "lost 1 of 4"},
		"one came twice":                 {[]int{0, 1, 2, 3, 3}, contender.Count{}, "handled 1 of 4 more than once"},
		"one is acked, but still stored": {[]int{0, 1, 2, 3}, contender.Count{Messages: 1, Distinct: 1}, "keeps 1 that were acked"},
		"a foreign one came":             {[]int{0, 1, 2, 3, 4, -1}, contender.Count{}, "delivered 2 that were never published"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tally := newLedger(4, 4)
			for _, id := range c.handled {
				tally.mark(id)
			}
			err := tally.check(c.left)
			if c.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.wrong)
		})
	}
}

func TestOrder_DiffersEachRound(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	for round := range 4 {
		numbers := order(7, round)
		require.ElementsMatch(t, []int{0, 1, 2, 3, 4, 5, 6}, numbers)
		require.False(t, seen[numbers[0]], "round %d begins with %d again", round, numbers[0])
		seen[numbers[0]] = true
	}
}

func TestAll_NamesExistingContenders(t *testing.T) {
	t.Parallel()
	known, works := make(map[string]bool), make(map[string]bool)
	for _, c := range contender.All() {
		require.False(t, known[c.Name], c.Name)
		known[c.Name] = true
	}
	for _, w := range All(Quick()) {
		require.False(t, works[w.Name], w.Name)
		works[w.Name] = true
		entrants := make(map[string]bool)
		for _, e := range w.Entrants {
			require.True(t, known[e.Contender], "%s: %s", w.Name, e.Contender)
			entrants[e.Name] = true
		}
		require.True(t, entrants[w.Reference], "%s is compared with %s", w.Name, w.Reference)
	}
}
