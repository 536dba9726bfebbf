package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documented finds commands in the lines of blocks, and between backquotes.
var documented = regexp.MustCompile("(?m)(?:^|&& |`)ezq-pgmq ([a-z-]+(?: [^`#&|>\n]+)?)")

// Each command that a page shows is one that the command takes.
func TestDocumentation_ShowsCommandsThatAreTaken(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range documented.FindAllStringSubmatch(joinLines(string(text)), -1) {
			args := shellArguments(found[1])
			c, err := parse(args)
			names[c.name] = true
			if len(args) > 1 { // a name alone is in a sentence
				require.NoError(t, err, "%s: ezq-pgmq %s", page, found[1])
			}
		}
	}
	for _, found := range regexp.MustCompile(`(?m)^  ezq-pgmq (\S+)`).FindAllStringSubmatch(usage, -1) {
		require.True(t, names[found[1]], "no page shows %s", found[1])
	}
}

// joinLines puts a command that a paragraph breaks on one line.
func joinLines(text string) string {
	return regexp.MustCompile("(`ezq-pgmq [^`\n]*)\n([^`\n]*`)").ReplaceAllString(text, "$1 $2")
}

// shellArguments splits as a shell does, as far as the pages need that.
func shellArguments(line string) (args []string) {
	for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1) {
		args = append(args, strings.Trim(word, `"`))
	}
	return args
}
