package command

import (
	"io"
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

// documentedIn returns the arguments of the commands that stand in the lines of blocks, and between backquotes.
func documentedIn(text string) (found []string) {
	inside, printed := false, false
	for line := range strings.Lines(joinLines(text)) {
		if strings.HasPrefix(line, "```") {
			inside, printed = !inside, strings.HasPrefix(line, "```text")
		}
		before := "`"
		switch {
		case printed:
			before = `^\$ `
		case inside:
			before = `^|&& |\| `
		}
		for _, args := range regexp.MustCompile("(?:"+before+")ezq ([a-z-]+(?: [^`#&|><\n]+)?)").FindAllStringSubmatch(line, -1) {
			found = append(found, strings.TrimSpace(args[1]))
		}
	}
	return found
}

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
		for _, found := range documentedIn(string(text)) {
			args := shellArguments(found)
			path, err := parse(args)
			names[path] = true
			if len(args) > strings.Count(path, " ") { // a name alone is in a sentence
				require.NoError(t, err, "%s: ezq %s", page, found)
			}
		}
	}
	for _, path := range allCommands(t) {
		if strings.Join(path, " ") == "dead" { // which has commands alone
			continue
		}
		require.True(t, names["ezq "+strings.Join(path, " ")], "no page shows %s", path)
	}
}

// parse returns the path of the command that args name, and what is wrong with them.
func parse(args []string) (path string, err error) {
	s := newSession(Process{Out: io.Discard, Err: io.Discard, Lookup: lookupIn(nil)})
	root := newRoot(s)
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return "", err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return cmd.CommandPath(), err
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return cmd.CommandPath(), unknownCommand(cmd, cmd.Flags().Arg(0))
	}
	return cmd.CommandPath(), cmd.ValidateArgs(cmd.Flags().Args())
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
	before, block, _ := strings.Cut(pageOf(t, "docs", "operate.md"), "\n```")
	block, _, _ = strings.Cut(block, "\n```\n")
	tried := 0
	for _, found := range documentedIn(before + "\n```" + block) {
		args := shellArguments(found)
		if strings.HasPrefix(found, "dead edit") || strings.HasPrefix(found, "dead show") { // of a row that is not there
			continue
		}
		tried++
		code, out, errOut := outputOf(t, operator, args...)
		if args[0] == "doctor" && strings.Contains(out, "failure: durability") { // of the server of tests
			code = exitDone
		}
		require.Zero(t, code, "ezq %s\n%s%s", found, out, errOut)
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
	return regexp.MustCompile("(`ezq [^`\n]*)\n([^`\n]*`)").ReplaceAllString(text, "$1 $2")
}

// shellArguments splits as a shell does, as far as the pages need that.
func shellArguments(line string) (args []string) {
	for _, word := range regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(line, -1) {
		args = append(args, unquoted(word))
	}
	return args
}

func unquoted(word string) string {
	if quote := word[:1]; len(word) > 1 && (quote == `"` || quote == "'") && strings.HasSuffix(word, quote) {
		return word[1 : len(word)-1]
	}
	return word
}
