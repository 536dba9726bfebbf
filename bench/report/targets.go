package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/ezq-go/ezq/bench/result"
)

// A target is what ezq has set itself. It is either a ratio or, without an opponent, an absolute
// figure, which holds for two cores.
type target struct {
	work    string
	metric  result.Metric
	entrant string
	against string
	value   float64 // at least, for a ratio; at most, for a figure
}

// The entrants that targets are about.
const (
	channel = "ezq/pgmq"
	router  = "ezq/pgmq router"
	floor   = "SQL floor, 1000"
	wsql    = "watermill-sql "
)

func targets() []target { return append(publishTargets(), consumeTargets()...) }

func publishTargets() []target {
	rate := result.Rate
	return []target{
		{"publish-32", rate, channel, wsql + "default schema, default", 2},
		{"publish-32", rate, channel, wsql + "queue schema, default", 2},
		{"publish-32", rate, channel, "River, default", 6},
		{"publish-32", rate, channel, "pgmq functions, 100", 3},
		{"publish-1", rate, channel, wsql + "default schema, default", 0.92},
		{"publish-1", rate, channel, wsql + "queue schema, default", 0.92},
		{"publish-1", rate, channel, "SQL floor, 100", 0.92},
		{"publish-1", rate, channel, "River, default", 2},
		{"batch-100", rate, channel, "SQL floor, 100", 0.9},
		{"batch-100", rate, channel, "pgmq functions, 100", 1.15},
		{"batch-100", rate, channel, "River, default", 2.2},
		{"batch-100", rate, channel, wsql + "queue schema, default", 0.75},
		{"condition-1", rate, router + ": ID", router + ": plain", 0.8},
		{"condition-1", rate, router + ": unique", router + ": plain", 0.8},
		{"condition-1", rate, router + ": unique", "River, default: unique", 2},
		{"condition-8", rate, router + ": ID", router + ": plain", 0.8},
		{"condition-8", rate, router + ": unique", router + ": plain", 0.8},
		{"condition-8", rate, router + ": unique", "River, default: unique", 2},
	}
}

func consumeTargets() []target {
	rate := result.Rate
	return []target{
		{"drain", rate, channel, floor, 0.9},
		{"drain", rate, channel, wsql + "queue schema, default", 1.05},
		{"drain", rate, channel, wsql + "queue schema, default", 1.5},
		{"drain", rate, channel, wsql + "queue schema, best", 1.3},
		{"drain", rate, channel, wsql + "default schema, best", 1.5},
		{"drain", rate, channel, wsql + "default schema, default", 10},
		{"drain", rate, channel, "River, best", 4},
		{"drain", rate, channel, "River, default", 80},
		{"drain", rate, router, channel, 0.8},
		{"drain", result.Allocs, channel, "", 12},
		{"drain", result.Allocs, router, "", 30},
		{"handler-2ms", rate, channel, wsql + "default schema, best", 100},
		{"handler-2ms", rate, channel, wsql + "queue schema, best", 100},
		{"handler-2ms", rate, channel, "River, best", 3},
		{"handler-1-percent-slow", rate, channel, "River, best", 1.2},
		{"pinned", rate, channel + ": pinned", channel + ": undisturbed", 0.8},
		{"obstructed", rate, channel + ": delayed", channel + ": none", 0.8},
		{"obstructed", rate, channel + ": leased", channel + ": none", 0.8},
		{"depth", rate, channel + ": deep", channel + ": 10,000", 0.8},
		{"stale", rate, channel + ": never analysed", channel + ": fresh", 0.8},
		{"stale", rate, channel + ": of when it was empty", channel + ": fresh", 0.8},
		{"stale", rate, channel + ": of when all was leased", channel + ": fresh", 0.8},
		{"stale", rate, channel + ": of when all was delayed", channel + ": fresh", 0.8},
		{"stale-traffic", rate, channel + ": of when all was leased", channel + ": fresh", 0.8},
		{"latency-50", result.P50, channel, "", 1.5},
		{"latency-50", result.P99, channel, "", 5},
		{"latency-50", result.P50, channel, "River, best", 1},
		{"latency-1000", result.P50, channel, "", 1.5},
		{"latency-1000", result.P99, channel, "", 5},
		{"latency-1000", result.P50, channel, "River, best", 1},
		{"idle", result.Statements, channel, "", 2},
		{"idle", result.IdleClient, channel, "", 1},
		{"in-process", rate, "ezq/memory", "gochannel", 1},
	}
}

// Targets returns a table of the targets beside the figures.
func Targets(run result.Run) string {
	var b strings.Builder
	b.WriteString("| work | what | target | measured | |\n|---|---|---:|---:|---|\n")
	for _, t := range targets() {
		w, ok := run.Work(t.work)
		if !ok {
			continue
		}
		figure, status := t.evaluate(w)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", t.work, t.what(), t.goal(), figure, status)
	}
	return b.String()
}

func (t target) what() string {
	if t.against == "" {
		return fmt.Sprintf("%s: %s", t.entrant, t.metric)
	}
	return fmt.Sprintf("%s ÷ %s", t.entrant, t.against)
}

func (t target) goal() string {
	if t.against == "" {
		return "≤ " + number(t.value)
	}
	return "≥ " + times(t.value)
}

func (t target) evaluate(w result.Work) (figure, status string) {
	if t.against != "" {
		ratio, err := w.Ratio(t.metric, t.entrant, t.against)
		if err != nil {
			return "–", "not compared: " + err.Error()
		}
		return times(ratio), met(ratio >= t.value)
	}
	o, ok := w.Outcome(t.entrant)
	if !ok {
		return "–", "not measured"
	}
	if problem := o.Problem(); problem != "" {
		return "–", "not counted: " + problem
	}
	value := o.Median(t.metric)
	if math.IsNaN(value) {
		return "–", "not measured"
	}
	return number(value), met(value <= t.value)
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "**missed**"
}
