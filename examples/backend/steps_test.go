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
	found := make([]findings, len(steps()))
	t.Run("steps", func(t *testing.T) {
		for i, step := range steps() {
			t.Run(step.name, func(t *testing.T) {
				t.Parallel()
				found[i] = step.examine(t)
			})
		}
	})
	path := filepath.Join("..", "..", "docs", "backends.md")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	want := withLists(t, string(text), found)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	require.Empty(t, firstChange(string(text), want), "docs/backends.md says something else: go test ./examples/backend -update")
	requireQuotedFailures(t, want, found)
}

// requireQuotedFailures fails if the guide quotes a failure, at the beginning of a row of a
// table, that the step before does not have.
func requireQuotedFailures(t *testing.T, page string, found []findings) {
	t.Helper()
	for i, section := range strings.Split(page, "\n## Step ")[2:] {
		for _, row := range strings.Split(section, "\n| `")[1:] {
			quoted, _, _ := strings.Cut(row, "`")
			require.True(t, slices.ContainsFunc(found[i].failures, func(f string) bool { return strings.Contains(f, quoted) }),
				"step %d has no failure %q", i+1, quoted)
		}
	}
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

// findings is what the suite found in a step.
type findings struct {
	kept     map[string]bool // by the title of the case
	failures []string
}

// examine runs each case in a bubble of its own.
func (s step) examine(t *testing.T) findings {
	found := findings{kept: map[string]bool{}}
	for _, c := range conformance.Cases() {
		failure := s.failure(t, c)
		chance := slices.Contains(s.chance, c.Title()) || !s.promises.Groups && slices.Contains(groupsByChance(), c.Title())
		found.kept[c.Title()] = failure == "" && !chance
		found.failures = append(found.failures, failure)
		if testing.Verbose() && failure != "" {
			t.Logf("%s: %s: %s", s.name, c.Title(), failure)
		}
	}
	return found
}

// failure returns what the suite saw instead of the case's promise.
func (s step) failure(t *testing.T, c conformance.Case) (failure string) {
	defer func() {
		if r := recover(); r != nil { // what a case leaves behind, nothing can end
			failure = fmt.Sprint(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		results := conformance.Check(t.Context(), s.open, s.promises, conformance.Timeout(time.Hour),
			conformance.Only(func(other conformance.Case) bool { return other.Title() == c.Title() }))
		failure = results[0].Failure
	})
	return failure
}

// withLists returns the guide with what each step, or each part of it, keeps between its marks.
func withLists(t *testing.T, page string, found []findings) string {
	t.Helper()
	for i, step := range steps() {
		total := fmt.Sprintf("\n%d of %d cases are green.", count(found[i].kept), len(found[i].kept))
		news := gained(t, found, i)
		for _, part := range step.parts {
			var own []conformance.Case
			own, news = part.of(step, news)
			page = between(t, page, step.name+", "+part.name, "\nNew:\n\n"+list(own))
		}
		if len(step.parts) == 0 {
			page = between(t, page, step.name, total+" New:\n\n"+list(news))
			continue
		}
		require.Empty(t, news, "cases of %s that belong to no part of it", step.name)
		page = between(t, page, step.name, total+"\n")
	}
	return page
}

// between puts text between the marks of a name.
func between(t *testing.T, page, name, text string) string {
	t.Helper()
	begin, end := fmt.Sprintf("<!-- %s: written by a test -->\n", name), "<!-- end -->\n"
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	require.True(t, found && closed, "docs/backends.md has lost the marks of %s", name)
	return before + begin + text + "\n" + end + after
}

// gained returns the cases that hold from a step on. Those of the step before hold still.
func gained(t *testing.T, found []findings, step int) (news []conformance.Case) {
	t.Helper()
	for _, c := range conformance.Cases() {
		before := step > 0 && found[step-1].kept[c.Title()]
		switch now := found[step].kept[c.Title()]; {
		case now && !before:
			news = append(news, c)
		case before:
			require.True(t, now, "step %d does not keep %s, and the step before does", step+1, c.Title())
		}
	}
	return news
}

func list(cases []conformance.Case) string {
	var text strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&text, "- %s: %s\n", c.Title(), c.Sentence)
	}
	return text.String()
}

func count(kept map[string]bool) (n int) {
	for _, holds := range kept {
		if holds {
			n++
		}
	}
	return n
}

// What the guide adds is in the code of the step, and what it removes is in the step before.
func TestGuide_ShowsCodeOfSteps(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "backends.md"))
	require.NoError(t, err)
	for i, part := range strings.Split(string(text), "\n## Step ")[1:] {
		before, code := sources(t, i), sources(t, i+1)
		for _, block := range strings.Split(part, "```diff\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			for line := range strings.Lines(block) {
				if removed, ok := strings.CutPrefix(line, "-"); ok {
					require.True(t, before[strings.TrimSpace(removed)], "step %d has no line %q", i, removed)
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
	parts    []part   // of the guide, if the guide explains the step promise by promise
}

// part is a section of the guide: the cases that need its promises, and none of a later part's.
type part struct {
	name     string
	promises []string
}

// of splits cases of a step into those of the part and the others.
func (p part) of(s step, cases []conformance.Case) (own, others []conformance.Case) {
	for _, c := range cases {
		if s.partOf(c).name == p.name {
			own = append(own, c)
		} else {
			others = append(others, c)
		}
	}
	return own, others
}

// partOf returns the last part that has a promise which the case needs.
func (s step) partOf(c conformance.Case) (last part) {
	for _, p := range s.parts {
		if slices.ContainsFunc(c.Needs(), func(need string) bool { return slices.Contains(p.promises, need) }) {
			last = p
		}
	}
	return last
}
