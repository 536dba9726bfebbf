package arch

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A retired word was used for a thing for which the field, and docs/concepts.md, have another one.
type retired struct {
	word    string // a regular expression
	instead string
}

// Of an identifier each word counts, as give and Back of giveBack.
var retiredWords = []retired{
	{`verdicts?`, "disposition"},
	{`fates?`, "outcome"},
	{`keepers?`, "parker or leaser"},
	{`gives? back|gave back|given back|giving back`, "release"},
	{`(puts?|sets?|steps?|stepped|setting|putting) (\w+ ){0,3}aside`, "park, or hide"},
	{`(puts?|putting) (\w+ ){0,3}away`, "quarantine"},
	{`acknowledg(e|es|ed|ing|ements?)`, "ack"},
	{`takers?`, "consumer"},
	{`mistrusts?|habits?`, "lock policy"},
	{`turn(s|ed)? away`, "release"},
	{`renew(s|ed|als?|ing)?`, "extend"},
	{`sits? down|come back with a seat`, "reacquire"},
}

// retiredNames are names of the API that have changed.
var retiredNames = regexp.MustCompile(`\b(MetaFrom|MetasFrom|LoggerFrom|NameOf|StepAside|SetAside|Healthy|DeliveryFrom|ConsumerFrom|TickFrom|InTx|InSQL|NoHold|WithShared|ClearDeadLetter|backend\.Shared|Throttle\.Shared|Throttle_Shared|Disposition\.DeadLetter|Disposition\.Redelivery|conformance\.(Options|Limit|AtOnce)|backend\.Exclusive|pgmq\.(Plain|Unlogged|Partitioned)|SubscriptionStats\.(Expired|LeaseLost|Waiting)|Flow\.(Settle|Expire)|Settings\.Connections|ezq[._]subscription[._](expired|waiting)(_total)?|backend\.(Stored|Existed|Replaced|Waiting|Delayed|Delivered|Dead|Archived))\b`)

// exempt names retired words: the changelog lists them, the style page quotes one.
var exempt = map[string]bool{"CHANGELOG.md": true, "docs/style.md": true, "internal/arch/words_test.go": true}

func TestWords_RetiredOnesStayAway(t *testing.T) {
	patterns := make([]*regexp.Regexp, len(retiredWords))
	for i, r := range retiredWords {
		patterns[i] = regexp.MustCompile(`(?i)\b(` + r.word + `)\b`)
	}
	for name, text := range readTexts(t) {
		if exempt[name] {
			continue
		}
		for number, line := range strings.Split(text, "\n") {
			if found := retiredNames.FindString(line); found != "" {
				t.Errorf("%s:%d: %s has another name now: CHANGELOG.md lists it", name, number+1, found)
			}
			if !suspicious(line) {
				continue
			}
			words := separated(line)
			for i, pattern := range patterns {
				if found := pattern.FindString(words); found != "" {
					t.Errorf("%s:%d: %q: say %s", name, number+1, found, retiredWords[i].instead)
				}
			}
		}
	}
}

// nameless is a subject without a name, which docs/style.md forbids.
var nameless = regexp.MustCompile(`\b([Nn]o|[Ss]ome|[Aa]ny|[Ee]very)(body|one)\b|\b[Ww]hoever\b`)

func TestWords_SubjectHasAName(t *testing.T) {
	for _, file := range readSources(t) {
		name := fromRoot(t, file.name)
		if name == "internal/arch/words_test.go" || name == "internal/docs/style_test.go" { // which look for them
			continue
		}
		for number, line := range strings.Split(file.text, "\n") {
			if found := nameless.FindString(line); found != "" {
				t.Errorf("%s:%d: %q is no subject: name it, as the consumer or the program", name, number+1, found)
			}
		}
	}
}

func TestWords_AreReadWhereverTheyStand(t *testing.T) {
	texts := readTexts(t)
	for _, name := range []string{
		"ezq/router.go", "README.md", "docs/migrating/river.md", "otel/grafana.json", "docs/images/message.svg", "Makefile",
		"scripts/pgmq", "scripts/lib/install.bash", "backend/pgmq/sql/metrics.sql",
	} {
		if texts[name] == "" {
			t.Errorf("%s is not read", name)
		}
	}
}

func TestWords_AreFoundInIdentifiers(t *testing.T) {
	for line, want := range map[string]string{
		"func (k *task) giveBack() {":       "func (k *task) give back() {",
		"GivenBack int64 // given back":     "given back int64 // given back",
		"queue.InTx() and HTTPServer":       "queue.in tx() and httpserver",
		"ezq_given_back, not_the_aftertake": "ezq given back, not the aftertake",
	} {
		if got := separated(line); got != want {
			t.Errorf("%q is read as %q instead of %q", line, got, want)
		}
	}
}

// stems are in every line with a retired word. To look for them first is quick.
var stems = []string{"verdict", "fate", "keeper", "back", "aside", "taker", "mistrust", "habit", "away", "sit", "acknowledg"}

func suspicious(line string) bool {
	lower := strings.ToLower(line)
	return slices.ContainsFunc(stems, func(stem string) bool { return strings.Contains(lower, stem) })
}

var inner = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// separated returns a line with the words of its identifiers apart, in lower case.
func separated(line string) string {
	return strings.ToLower(strings.ReplaceAll(inner.ReplaceAllString(line, "$1 $2"), "_", " "))
}

// read is the kinds of files that have words in them. A script has no extension.
var read = []string{".go", ".md", ".json", ".sql", ".svg", ".bash", ".yml", ""}

// readTexts returns the texts of the repository, by their names.
func readTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case !entry.Type().IsRegular() || !slices.Contains(read, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		if bytes.IndexByte(text, 0) < 0 { // a program that was built is no text
			texts[fromRoot(t, path)] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
