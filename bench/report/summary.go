package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/ezq-go/ezq/bench/result"
)

// column is a way to move messages, as users think of it: at the best settings that there are for
// it in each work.
type column struct {
	title    string
	entrants []string
}

func columns() []column {
	return []column{
		{"ezq", []string{channel}},
		{"ezq, typed router", []string{router}},
		{"watermill-sql", []string{
			wsql + "default schema, default", wsql + "queue schema, default",
			wsql + "default schema, best", wsql + "queue schema, best",
		}},
		{"River", []string{"River, default", "River, best"}},
		{"PGMQ's functions", []string{"pgmq functions, 100", "pgmq functions, 1000"}},
		{"hand-written SQL", []string{"SQL floor, 100", "SQL floor, 1000"}},
	}
}

// Summary returns the table for the README: the works that users feel first.
func Summary(run result.Run) string {
	var b strings.Builder
	titles, rule := "| |", "|---|"
	for _, c := range columns() {
		titles += " " + c.title + " |"
		rule += "---:|"
	}
	b.WriteString(titles + "\n" + rule + "\n")
	for _, row := range []struct {
		title, work string
		metric      result.Metric
	}{
		{"publish, 1 goroutine", "publish-1", result.Rate},
		{"publish, 32 goroutines", "publish-32", result.Rate},
		{"publish batches of 100", "batch-100", result.Rate},
		{"drain, handler does nothing", "drain", result.Rate},
		{"handlers of 2 ms", "handler-2ms", result.Rate},
		{"publish to handler at 1,000/s, median ms", "latency-1000", result.P50},
		{"… 99th percentile, ms", "latency-1000", result.P99},
	} {
		w, ok := run.Work(row.work)
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "| %s |", row.title)
		for _, c := range columns() {
			fmt.Fprintf(&b, " %s |", c.best(w, row.metric))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nMessages a second unless it says otherwise, 256 bytes each; %d cores for all of it, PostgreSQL %s with fsync %s. "+
		"Of several settings the best that neither lost nor doubled a message.\n",
		run.Host.Cores, firstWord(run.Host.Settings["server_version"]), run.Host.Settings["fsync"])
	return b.String()
}

func firstWord(text string) string {
	first, _, _ := strings.Cut(text, " ")
	return first
}

func (c column) best(w result.Work, metric result.Metric) string {
	best, wrong := math.NaN(), false
	for _, entrant := range c.entrants {
		o, ok := w.Outcome(entrant)
		if !ok {
			continue
		}
		if o.Problem() != "" {
			wrong = true
			continue
		}
		v := o.Median(metric)
		if math.IsNaN(best) || v > best && !metric.LowerIsBetter() || v < best && metric.LowerIsBetter() {
			best = v
		}
	}
	if math.IsNaN(best) && wrong {
		return "failed"
	}
	return number(best)
}
