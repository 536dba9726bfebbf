package conformance_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
)

const (
	guide  = "../docs/conformance.md"
	remedy = "write it anew: make kill-table"
)

var update = flag.Bool("update", false, "write the tables of docs/conformance.md anew")

func TestTables_MatchDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(guide)
	require.NoError(t, err)
	want := string(text)
	for name, table := range map[string]string{"cases": caseTables(), "mutants": killTable()} {
		begin, end := fmt.Sprintf("<!-- %s: written by make kill-table -->\n", name), fmt.Sprintf("<!-- end of %s -->\n", name)
		before, rest, found := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		require.True(t, found && closed, "%s has no place for the %s", guide, name)
		want = before + begin + "\n" + table + "\n" + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(guide, []byte(want), 0o644))
		return
	}
	require.True(t, want == string(text), "a table in %s is out of date; %s", guide, remedy)
}

// caseTables lists the cases, theme by theme.
func caseTables() string {
	var b strings.Builder
	theme := ""
	for _, c := range conformance.Cases() {
		if c.Theme != theme {
			if theme != "" {
				b.WriteString("\n")
			}
			theme = c.Theme
			fmt.Fprintf(&b, "### %s%s\n\n| case | what holds | needs |\n| --- | --- | --- |\n", strings.ToUpper(theme[:1]), theme[1:])
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, c.Sentence, strings.Join(c.Needs(), ", "))
	}
	return b.String()
}

// killTable lists the mutants, and what they say themselves.
func killTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mutants, %d cases.\n\n| mutant | what it breaks | killed by |\n| --- | --- | --- |\n", len(mutants()), len(conformance.Cases()))
	for _, m := range mutants() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.name, m.breaks, strings.Join(m.killedBy, "; "))
	}
	return b.String()
}
