package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
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

// The page on call says which role its commands need.
func TestDocumentation_CommandsOnCallWorkForTheOperator(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	_, err := client.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "this creates the table"})
	require.NoError(t, err)
	require.NoError(t, client.SubscribeInitialize("ezq_schedules"))
	runSchedule(t, client, "report")
	_, err = client.DropQueue(t.Context(), ezq.DefaultTopic) // which the page grants nothing on
	require.NoError(t, err)
	var grants []string
	for _, grant := range regexp.MustCompile(`(?m)^(grant .* to )ezq_operator;$`).FindAllStringSubmatch(pageOf(t, "docs", "postgres.md"), -1) {
		if !strings.Contains(grant[1], "q_audit") {
			grants = append(grants, grant[1]+"{role}")
		}
	}
	operator := pgtest.Role(t, database, grants...)
	block, _, _ := strings.Cut(pageOf(t, "docs", "operate.md"), "\n```\n")
	tried := 0
	for _, found := range documented.FindAllStringSubmatch(block, -1) {
		args := shellArguments(found[1])
		if args[0] == "edit-dead" { // with a file of the operator's
			continue
		}
		tried++
		code, out, errOut := outputOf(t, operator, args...)
		if args[0] == "doctor" && strings.Contains(out, "failure: durability") { // of the server of tests
			code = exitDone
		}
		require.Zero(t, code, "ezq-pgmq %s\n%s%s", found[1], out, errOut)
	}
	require.Greater(t, tried, 10)
}

func pageOf(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "..", ".."}, path...)...))
	require.NoError(t, err)
	return string(text)
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
