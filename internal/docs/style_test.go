package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The pages that follow docs/style.md in what a test can see of it. Others join them when they do.
var styled = []string{
	"README.md", "docs/README.md", "docs/concepts.md", "docs/guide.md", "docs/operate.md", "docs/style.md",
	"docs/design.md", "docs/reliability.md", "SECURITY.md",
	"docs/postgres.md",
	"docs/performance.md",
	"docs/backends.md",
	"docs/walk.md",
	"examples/README.md",
	"CONTRIBUTING.md",
	"docs/dependencies.md",
	"docs/releasing.md",
	"docs/migrating/watermill-sql.md",
	"docs/migrating/river.md",
	"docs/migrating/python.md",
	"docs/wire.md",
	"docs/tenants.md",
	"docs/observability.md",
	"docs/brokers.md",
	"docs/conformance.md",
	"docs/doctor.md",
}

const (
	longestSentence = 35  // words
	longestLine     = 120 // characters
	longestReadme   = 170 // lines
	longestProgram  = 20  // lines below its imports
)

func TestProse_FollowsTheStylePage(t *testing.T) {
	t.Parallel()
	for _, name := range styled {
		for _, complaint := range pageNamed(t, name).unstylish() {
			t.Error(complaint)
		}
	}
}

func TestProse_BreachOfTheStyleIsNoticed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("it ", longestSentence+1) + "."
	for _, text := range []string{"Nobody waits.", strings.Repeat("it ", 20) + "it: " + strings.Repeat("it ", 16) + "it.", "Whoever has it, acks it.", "## Who acks?", "| a | " + long + " |", "- " + long, long, strings.Repeat("It acks. ", 14)} {
		if len(parsePage("page.md", text).unstylish()) != 1 {
			t.Errorf("not noticed: %s", text)
		}
	}
	fine := []string{
		"It acks.\n\n```sh\nwho?\n```", "The page quotes *nobody* and `who?`.", strings.Repeat("It acks.\n", 20), "| " + strings.Repeat("It acks. ", 20) + " |",
		"```sh\n" + strings.Repeat("ack ", 40) + "\n```", "[it](https://example.com/" + strings.Repeat("a", longestLine) + ")",
		"<!-- cases: written by a test -->\nwho?\n<!-- end -->",
	}
	for _, text := range fine {
		if complaints := parsePage("page.md", text).unstylish(); complaints != nil {
			t.Errorf("found %q in: %s", complaints, text)
		}
	}
}

func TestReadme_IsShortAndBeginsWithAProgram(t *testing.T) {
	t.Parallel()
	readme := pageNamed(t, "README.md")
	if lines := len(readme.lines) - 1; lines > longestReadme {
		t.Errorf("the README has %d lines, %d at most are allowed", lines, longestReadme)
	}
	blocks, _ := readme.blocks()
	_, program, imports := strings.Cut(blocks[0].text, "\n)\n\n")
	if !blocks[0].whole() || !imports || !strings.Contains(program, "func main() {") || strings.Count(program, "\n")+1 > longestProgram {
		t.Errorf("the README begins with no whole program of %d lines below its imports, but with\n%s", longestProgram, blocks[0].text)
	}
}

var (
	quoted   = regexp.MustCompile("`[^`]*`|\\*\\w+\\*|\"[^\"]*\"|\\]\\([^)]*\\)") // code, words as words, quotations, targets of links
	vague    = regexp.MustCompile(`(?i)\b(nobody|somebody|anybody|whoever)\b|\?`)
	sentence = regexp.MustCompile(`[.!?]\**\s+`)
	item     = regexp.MustCompile(`^\s*([-*]|\d+\.)\s`)
)

// unstylish lists the sentences that are too long, vague about their subject, or questions, and the lines that are too
// long. The cells of a table are sentences of their own. In a table "instead of | write" the first column is exempt.
func (p page) unstylish() (complaints []string) {
	for _, text := range p.passages() {
		text = quoted.ReplaceAllString(text, "it")
		for _, s := range sentence.Split(text, -1) {
			if n := len(strings.Fields(s)); n > longestSentence {
				complaints = append(complaints, fmt.Sprintf("%s: %d words: %s", p.name, n, s))
			}
		}
		if found := vague.FindString(text); found != "" {
			complaints = append(complaints, fmt.Sprintf("%s: %q in: %s", p.name, found, text))
		}
	}
	return append(complaints, p.longLines()...)
}

// longLines lists the lines of prose that could be broken and are too long, unless a command has written them.
func (p page) longLines() (complaints []string) {
	_, prose := p.blocks()
	generated := p.name == "docs/brokers.md"
	for _, line := range prose {
		if strings.HasPrefix(line, "<!--") {
			generated = !strings.Contains(line, "end")
		}
		breakable := strings.Contains(item.ReplaceAllString(line, ""), " ") && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "![")
		if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > longestLine && breakable && !generated {
			complaints = append(complaints, fmt.Sprintf("%s: a line of %d characters: %s", p.name, n, line))
		}
	}
	return complaints
}

// passages returns the paragraphs, list items, headings and cells of a page, without those that a
// command has written between marks.
func (p page) passages() (passages []string) {
	_, prose := p.blocks()
	open, contrast, generated := false, false, false
	for _, line := range prose {
		switch {
		case strings.HasPrefix(line, "<!--"):
			open, generated = false, !strings.Contains(line, "end")
		case generated:
		case strings.HasPrefix(line, "|"):
			cells := strings.Split(strings.Trim(line, "|"), "|")
			contrast = contrast || strings.TrimSpace(cells[0]) == "instead of"
			if contrast {
				cells = cells[1:]
			}
			passages, open = slices.Concat(passages, cells), false
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
			passages, open, contrast = append(passages, line), false, false
		case open && !item.MatchString(line):
			passages[len(passages)-1] += " " + strings.TrimSpace(line)
		default:
			passages, open = append(passages, item.ReplaceAllString(line, "")), true
		}
	}
	return passages
}
