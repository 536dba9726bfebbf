package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
)

func documents(root string, findings []finding) map[string]string {
	return map[string]string{filepath.Join(root, "docs", "brokers.md"): page(findings)}
}

func page(findings []finding) string {
	var b strings.Builder
	b.WriteString("# What each backend keeps\n\n" +
		"Written by `go run ./report` in `conformance/brokers`: the conformance suite on ezq's backends and on\n" +
		"Watermill's Pub/Subs, each held to what holds for every Pub/Sub and to what it promises itself.\n" +
		"Failures that depend on timing do not show in every run. What is not promised is tried all the same, for a\n" +
		"shorter time.\n\n")
	b.WriteString(summary(findings) + "\n## How many cases\n\n" + table(findings))
	b.WriteString("\n## What is promised and does not hold\n")
	for _, f := range findings {
		b.WriteString(section(f))
	}
	b.WriteString("\n## Case by case\n\n✓ holds, ✗ does not, (✓) is not promised and held all the same, · is not promised.\n" +
		"The columns are:\n")
	b.WriteString(matrix(findings))
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
			r.Count(conformance.Skipped), r.Count(conformance.Bonus))
	}
	return b.String()
}

// section lists what a backend fails: the sentence that does not hold, what was seen,
// and the cause if it is known.
func section(f finding) string {
	failed := f.Results.Failed()
	if len(failed) == 0 && f.Crash == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n", f.title())
	if f.Crash != "" {
		fmt.Fprintf(&b, "A run before this one ended the whole process with the %s.\n\n", f.Crash)
	}
	known := brokers.Known(f.title())
	for _, r := range failed {
		title := r.Theme + "/" + r.Name
		fmt.Fprintf(&b, "- **%s.** %s\n  Seen instead: %s.\n", title, r.Sentence, oneLine(r.Failure))
		if cause := known[title]; cause != "" {
			fmt.Fprintf(&b, "  Cause: %s\n", cause)
		}
	}
	return b.String()
}

// matrix has a row for each case and a column for each backend that was run.
func matrix(findings []finding) string {
	var b strings.Builder
	head, rule := "\n| case |", "|---|"
	var ran []finding
	for _, f := range findings {
		if f.Missing == "" {
			ran = append(ran, f)
			head += fmt.Sprintf(" %d |", len(ran))
			rule += ":-:|"
			fmt.Fprintf(&b, "%d. %s\n", len(ran), f.title())
		}
	}
	b.WriteString(head + "\n" + rule + "\n")
	for i, c := range conformance.Cases() {
		fmt.Fprintf(&b, "| %s |", c.Title())
		for _, f := range ran {
			fmt.Fprintf(&b, " %s |", f.mark(i))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// summary is the first table: a line for each backend.
func summary(findings []finding) string {
	var b strings.Builder
	b.WriteString("| backend | keeps | does not keep |\n|---|---|---|\n")
	for _, f := range findings {
		if f.Missing != "" {
			continue // the second table says why
		}
		name := f.title()
		if !f.Ours {
			name = f.Backend + " " + f.Version + ", " + f.Mode
		}
		passed, failed := f.Results.Count(conformance.Passed), f.Results.Failed()
		fmt.Fprintf(&b, "| %s | %d of %d | %s |\n", name, passed, passed+len(failed), names(failed))
	}
	return b.String()
}

// names lists the first few cases: the sections have all of them.
func names(failed conformance.Results) string {
	const few = 4
	var list []string
	for i, r := range failed {
		if i == few && len(failed) > few+1 {
			return strings.Join(list, "; ") + fmt.Sprintf("; and %d more", len(failed)-few)
		}
		list = append(list, r.Name)
	}
	return strings.Join(list, "; ")
}

func oneLine(text string) string {
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ".")
}
