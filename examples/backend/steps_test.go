package backend_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
)

var update = flag.Bool("update", false, "write what the steps keep into docs/backends.md")

// The guide says which cases each step keeps, and the steps keep exactly those.
func TestSteps_KeepPromisesNamedInGuide(t *testing.T) {
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
	want := withLists(t, string(text), kept)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	require.Empty(t, firstChange(string(text), want), "docs/backends.md says something else: go test ./examples/backend -update")
}

// The last step keeps all that it promises.
func TestLastStep_KeepsItsPromises(t *testing.T) {
	t.Parallel()
	last := steps()[len(steps())-1]
	conformance.Run(t, last.open, last.promises, conformance.VirtualTime())
}

// firstChange returns the first line of want that is another one in got.
func firstChange(got, want string) string {
	lines := strings.Split(got, "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(lines) || lines[i] != line {
			return line
		}
	}
	return ""
}

// examine runs each case in a bubble of its own, and returns those that hold.
func (s step) examine(t *testing.T) map[string]bool {
	kept := map[string]bool{}
	for _, c := range conformance.Cases() {
		chance := slices.Contains(s.chance, c.Title()) || !s.promises.Groups && slices.Contains(groupsByChance(), c.Title())
		kept[c.Title()] = s.keeps(t, c) && !chance
	}
	return kept
}

func (s step) keeps(t *testing.T, c conformance.Case) (kept bool) {
	defer func() {
		if r := recover(); r != nil { // what a case leaves behind, nothing can end
			t.Logf("%s: %s: %v", s.name, c.Title(), r)
			kept = false
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		results := conformance.Check(t.Context(), s.open, s.promises, conformance.Limit(time.Hour),
			conformance.Only(func(other conformance.Case) bool { return other.Title() == c.Title() }))
		kept = results[0].Failure == ""
		if testing.Verbose() && !kept {
			t.Logf("%s: %s: %s", s.name, c.Title(), results[0].Failure)
		}
	})
	return kept
}

// withLists returns the guide with what each step keeps between its marks.
func withLists(t *testing.T, page string, kept []map[string]bool) string {
	t.Helper()
	for i, step := range steps() {
		begin, end := fmt.Sprintf("<!-- %s: written by a test -->\n", step.name), "<!-- end -->\n"
		before, rest, found := strings.Cut(page, begin)
		_, after, closed := strings.Cut(rest, end)
		require.True(t, found && closed, "docs/backends.md has lost the marks of %s", step.name)
		page = before + begin + gained(kept, i) + end + after
	}
	return page
}

// gained lists the cases that hold from a step on, and those that do so no longer.
func gained(kept []map[string]bool, step int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n%d of %d cases are green. New:\n\n", count(kept[step]), len(kept[step]))
	for _, c := range conformance.Cases() {
		now, before := kept[step][c.Title()], step > 0 && kept[step-1][c.Title()]
		switch {
		case now && !before && step == 0:
			fmt.Fprintf(&text, "- %s\n", c.Title())
		case now && !before:
			fmt.Fprintf(&text, "- %s: %s\n", c.Title(), c.Sentence)
		case before && !now:
			fmt.Fprintf(&text, "- and no longer %s\n", c.Title())
		}
	}
	return text.String() + "\n"
}

func count(kept map[string]bool) (n int) {
	for _, holds := range kept {
		if holds {
			n++
		}
	}
	return n
}

// What the guide shows of the steps is in the steps.
func TestGuide_ShowsCodeOfSteps(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "backends.md"))
	require.NoError(t, err)
	for i, part := range strings.Split(string(text), "\n## Step ")[1:] {
		code := sources(t, i+1)
		for _, block := range strings.Split(part, "```diff\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			for line := range strings.Lines(block) {
				if strings.HasPrefix(line, "-") {
					continue
				}
				line = strings.TrimSpace(strings.TrimPrefix(line, "+"))
				require.True(t, code[line], "step %d has no line %q", i+1, line)
			}
		}
	}
}

// sources returns the lines of a step.
func sources(t *testing.T, step int) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("step%d/*.go", step))
	require.NoError(t, err)
	lines := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			lines[strings.TrimSpace(line)] = true
		}
	}
	return lines
}

// step is a backend on the way.
type step struct {
	name     string
	promises conformance.Promises
	open     func(context.Context) (*conformance.System, error)
	chance   []string // cases that hold in some runs only
}
