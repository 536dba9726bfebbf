package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// TestDashboard_QueriesExistingMetrics compares the Grafana dashboard with what Prometheus
// gets from this example.
func TestDashboard_QueriesExistingMetrics(t *testing.T) {
	t.Parallel()
	_, scraped := report(t, pgtest.Database(t))
	labels := labelsOf(scraped)
	for _, q := range queries(t, "../../otel/grafana.json") {
		metrics := metricNames.FindAllString(q.Expr, -1)
		if len(metrics) == 0 {
			t.Errorf("%s: %s asks for nothing", q.title, q.Expr)
		}
		for _, metric := range metrics {
			if labels[metric] == nil {
				t.Errorf("%s: there is no metric %s", q.title, metric)
				continue
			}
			for _, label := range labelNames.FindAllString(withoutMetrics(q.Expr)+q.LegendFormat, -1) {
				if !labels[metric][label] {
					t.Errorf("%s: %s has no label %s", q.title, metric, label)
				}
			}
		}
	}
	// What is exported and not shown would be found out about too late.
	shown := strings.Builder{}
	for _, q := range queries(t, "../../otel/grafana.json") {
		shown.WriteString(q.Expr)
	}
	for metric := range labels {
		base := regexp.MustCompile(`_(bucket|sum|count|total)$`).ReplaceAllString(metric, "")
		if strings.HasPrefix(metric, "ezq_") && !strings.Contains(shown.String(), base) && !minor[base] {
			t.Errorf("nothing shows %s", base)
		}
	}
}

// minor metrics are for looking closer, not for a dashboard.
var minor = map[string]bool{"ezq_subscription_claimed": true, "ezq_subscription_prefetched": true, "ezq_subscription_unstored": true}

var (
	metricNames = regexp.MustCompile(`\b(ezq_(message|process|queue|router|subscription)|messaging_(client|process))_\w+\b`)
	labelNames  = regexp.MustCompile(`\b(ezq_(outcome|handler|settlement)|messaging_(destination|operation|system)\w*|error_type)\b`)
)

func withoutMetrics(expr string) string { return metricNames.ReplaceAllString(expr, "") }

type query struct {
	title              string
	Expr, LegendFormat string
}

func queries(t *testing.T, file string) (all []query) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []query
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, q := range panel.Targets {
			q.title = panel.Title
			all = append(all, q)
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard has no queries")
	}
	return all
}

// labelsOf returns the metrics in Prometheus's text format, each with its labels.
func labelsOf(scraped string) map[string]map[string]bool {
	series := regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? \S+$`)
	label := regexp.MustCompile(`(\w+)="`)
	found := map[string]map[string]bool{}
	for _, match := range series.FindAllStringSubmatch(scraped, -1) {
		if found[match[1]] == nil {
			found[match[1]] = map[string]bool{}
		}
		for _, l := range label.FindAllStringSubmatch(match[2], -1) {
			found[match[1]][l[1]] = true
		}
	}
	return found
}
