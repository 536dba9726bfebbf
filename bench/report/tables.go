// Package report shows what has been measured: as tables, as plots, and against the targets.
package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ezq-go/ezq/bench/result"
)

// Tables returns a table of Markdown for each work: medians over the rounds, and how the reference
// compares.
func Tables(run result.Run) string {
	var b strings.Builder
	for _, w := range run.Works {
		b.WriteString(table(w))
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func table(w result.Work) string {
	var b strings.Builder
	columns := measured(w)
	fmt.Fprintf(&b, "### %s\n\n", w.Title)
	fmt.Fprintf(&b, "| `%s` |", w.Name)
	for _, m := range columns {
		fmt.Fprintf(&b, " %s |", m)
	}
	fmt.Fprintf(&b, " %s is |\n|---|%s---:|\n", w.Reference, strings.Repeat("---:|", len(columns)))
	var problems []string
	for _, o := range w.Outcomes {
		name := o.Entrant
		if name == w.Reference {
			name = "**" + name + "**"
		}
		fmt.Fprintf(&b, "| %s |", name)
		for _, m := range columns {
			fmt.Fprintf(&b, " %s |", number(o.Median(m)))
		}
		fmt.Fprintf(&b, " %s |\n", comparison(w, o))
		if problem := o.Problem(); problem != "" {
			problems = append(problems, fmt.Sprintf("- Not compared: %s: %s\n", o.Entrant, problem))
		}
	}
	if len(problems) > 0 {
		b.WriteString("\n" + strings.Join(problems, ""))
	}
	return b.String()
}

// comparison returns how many times as good as the outcome the reference is. Where anything went
// wrong it is no number.
func comparison(w result.Work, o result.Outcome) string {
	if o.Entrant == w.Reference {
		return ""
	}
	ratio, err := w.Ratio(w.Metric, w.Reference, o.Entrant)
	if err != nil {
		return "not compared"
	}
	return times(ratio)
}

func measured(w result.Work) (columns []result.Metric) {
	for _, m := range result.Metrics() {
		for _, o := range w.Outcomes {
			if !math.IsNaN(o.Median(m)) {
				columns = append(columns, m)
				break
			}
		}
	}
	return columns
}

func times(ratio float64) string {
	switch {
	case ratio >= 100:
		return fmt.Sprintf("%.0f×", ratio)
	case ratio >= 10:
		return fmt.Sprintf("%.1f×", ratio)
	default:
		return fmt.Sprintf("%.2f×", ratio)
	}
}

// number writes a number with three digits that count, or all before the point.
func number(n float64) string {
	switch {
	case math.IsNaN(n):
		return "–"
	case n >= 100:
		return thousands(strconv.FormatFloat(n, 'f', 0, 64))
	case n >= 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	default:
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
