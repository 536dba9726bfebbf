package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
)

const (
	begin = "<!-- backends: written by conformance/brokers/report -->\n"
	end   = "<!-- end of backends -->\n"
)

func documents(root string, findings []finding) map[string]string {
	return map[string]string{filepath.Join(root, "docs", "brokers.md"): page(findings)}
}

func page(findings []finding) string {
	var b strings.Builder
	b.WriteString("# What each backend keeps\n\n" +
		"Written by `go run ./report` in `conformance/brokers`: the conformance suite on ezq's backends and on\n" +
		"Watermill's Pub/Subs, each held to what holds for every Pub/Sub and to what it promises itself.\n" +
		"Failures that depend on timing do not show in every run.\n\n" + table(findings))
	for _, f := range findings {
		b.WriteString(section(f))
	}
	return b.String()
}

func table(findings []finding) string {
	var b strings.Builder
	b.WriteString("| backend | version | mode | pass | fail | not promised | not promised, but works |\n" +
		"|---|---|---|--:|--:|--:|--:|\n")
	for _, f := range findings {
		fmt.Fprintf(&b, "| %s | %s | %s | ", f.Backend, f.Version, f.Mode)
		if f.Missing != "" {
			fmt.Fprintf(&b, "not run: %s is missing | | | |\n", f.Missing)
			continue
		}
		r := f.Results
		fmt.Fprintf(&b, "%d | %d | %d | %d |\n", r.Count(conformance.Passed), r.Count(conformance.Failed),
			r.Count(conformance.NotPromised), r.Count(conformance.Unpromised))
	}
	return b.String()
}

// section lists what a backend fails: the sentence that does not hold, what was seen,
// and the cause if it is known.
func section(f finding) string {
	failed := f.Results.Failed()
	if len(failed) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s, %s\n\n", f.Backend, f.Mode)
	known := brokers.Known(f.Backend + ", " + f.Mode)
	for _, r := range failed {
		title := r.Theme + "/" + r.Name
		fmt.Fprintf(&b, "- **%s.** %s\n  Seen instead: %s.\n", title, r.Sentence, oneLine(r.Failure))
		if cause := known[title]; cause != "" {
			fmt.Fprintf(&b, "  Cause: %s\n", cause)
		}
	}
	return b.String()
}

func oneLine(text string) string {
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}

// withTable returns the README with the table between its markers.
func withTable(root string, findings []finding) (string, error) {
	text, err := os.ReadFile(readmePath(root))
	if err != nil {
		return "", err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("README.md lacks the lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + "\n" + table(findings) + "\n" + end + after, nil
}
