package backend_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
)

var update = flag.Bool("update", false, "write what the steps keep into docs/backends.md")

// The guide says which cases each step keeps, and the steps keep exactly those.
func TestEachStepKeepsWhatTheGuideSays(t *testing.T) {
	t.Parallel()
	kept := make([]map[string]bool, len(steps()))
	t.Run("steps", func(t *testing.T) {
		for i, step := range steps() {
			t.Run(step.name, func(t *testing.T) {
				t.Parallel()
				kept[i] = step.examine(t)
			})
		}
	})
	path := filepath.Join("..", "..", "docs", "backends.md")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	want := withTable(t, string(text), kept)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644)) //nolint:gosec // it is public
		return
	}
	require.Equal(t, want, string(text), "docs/backends.md says something else: go test ./examples/backend -update")
}

// The last step keeps all that it promises.
func TestTheLastStepKeepsItsPromises(t *testing.T) {
	t.Parallel()
	last := steps()[len(steps())-1]
	conformance.Run(t, last.open, last.promises, conformance.VirtualTime())
}

// examine runs each case in a bubble of its own, and returns those that hold.
func (s step) examine(t *testing.T) map[string]bool {
	kept := map[string]bool{}
	for _, c := range conformance.Cases() {
		kept[c.Title()] = s.keeps(t, c)
	}
	return kept
}

func (s step) keeps(t *testing.T, c conformance.Case) (kept bool) {
	defer func() {
		if r := recover(); r != nil { // what a case leaves behind, nothing can end
			kept = false
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		results := conformance.Check(t.Context(), s.open, s.promises, conformance.Limit(time.Hour),
			conformance.Only(func(other conformance.Case) bool { return other.Title() == c.Title() }))
		kept = results[0].Failure == ""
		if testing.Verbose() && !kept {
			t.Log(c.Title(), ": ", results[0].Failure)
		}
	})
	return kept
}

const begin, end = "<!-- steps: written by go test ./examples/backend -update -->\n", "<!-- end of steps -->\n"

func withTable(t *testing.T, page string, kept []map[string]bool) string {
	t.Helper()
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	require.True(t, found && closed, "docs/backends.md has lost its marks")
	var b strings.Builder
	for i, step := range steps() {
		fmt.Fprintf(&b, "\n**%s** keeps %d of %d. New:\n%s.\n", step.name, count(kept[i]), len(kept[i]), gained(kept, i))
	}
	return before + begin + b.String() + "\n" + end + after
}

func count(kept map[string]bool) (n int) {
	for _, holds := range kept {
		if holds {
			n++
		}
	}
	return n
}

// gained lists the cases that hold from a step on, and those that do so no longer.
func gained(kept []map[string]bool, step int) string {
	var gained, lost []string
	for _, c := range conformance.Cases() {
		now, before := kept[step][c.Title()], step > 0 && kept[step-1][c.Title()]
		switch {
		case now && !before:
			gained = append(gained, "`"+c.Title()+"`")
		case before && !now:
			lost = append(lost, "`"+c.Title()+"`")
		}
	}
	text := strings.Join(gained, ",\n")
	if len(lost) > 0 {
		text += ". Lost:\n" + strings.Join(lost, ",\n")
	}
	return text
}

// step is a backend on the way.
type step struct {
	name     string
	promises conformance.Promises
	open     func(context.Context) (*conformance.System, error)
}
