package command

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the help of the commands into docs/command.md")

// The page has the help of each command: run this with -update after a change.
func TestPage_HasTheHelpOfEachCommand(t *testing.T) {
	t.Parallel()
	const begin = "\n## All commands\n"
	file := filepath.Join("..", "..", "..", "..", "docs", "command.md")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, _, found := strings.Cut(string(text), begin)
	require.True(t, found)
	var page strings.Builder
	page.WriteString(before + begin + "\nThis is their help, which a test compares with what they print.\n")
	for _, path := range append([][]string{{}}, allCommands(t)...) {
		var out strings.Builder
		code := Run(t.Context(), append(path, "--help"), Process{Out: &out, Err: &out, Lookup: lookupIn(nil)})
		require.Zero(t, code)
		page.WriteString("\n### " + strings.TrimSpace("ezq "+strings.Join(path, " ")) + "\n\n```text\n" + withoutGlobals(out.String()) + "\n```\n")
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(page.String()), 0o644))
		return
	}
	require.Equal(t, page.String(), string(text), "run this test with -update")
}

// withoutGlobals leaves out the flags that all commands have, and which stand in the help of ezq.
func withoutGlobals(help string) string {
	help, _, _ = strings.Cut(help, "\nGlobal Flags:\n")
	var lines []string
	for line := range strings.Lines(help) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
