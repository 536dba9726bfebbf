package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// span is what stdouttrace writes, as far as it matters here.
type span struct {
	Name        string
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ SpanID string }
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
}

func (s span) attribute(key string) any {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.Value
		}
	}
	return nil
}

// report runs the example and returns the spans that it writes, and all the rest.
func report(t *testing.T, databaseURL string) (spans []span, rest string) {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), &out, databaseURL, ""); err != nil {
		t.Fatal(err)
	}
	var others strings.Builder
	for line := range strings.Lines(out.String()) {
		var s span
		if json.Unmarshal([]byte(line), &s) == nil && s.SpanContext.TraceID != "" {
			spans = append(spans, s)
			continue
		}
		others.WriteString(line)
	}
	return spans, others.String()
}

func TestTelemetry_ReachesOutputAndPrometheus(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(testing.TB, ...string) string{
		"telemetry of a program in memory arrives": func(testing.TB, ...string) string { return "" }, "telemetry of a program on PGMQ arrives": pgtest.Database,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans, rest := report(t, database(t))
			traces := map[string]int{}
			outcomes := map[any]int{}
			for _, s := range spans {
				traces[s.SpanContext.TraceID]++
				if s.Name == "process orders" {
					outcomes[s.attribute("ezq.outcome")]++
				}
			}
			if len(traces) != 3 { // one for each order, from its publish to its end
				t.Errorf("%d traces: %v", len(traces), traces)
			}
			if outcomes["succeeded"] != 4 || outcomes["failed"] != 1 || outcomes["dead_lettered"] != 1 {
				t.Errorf("the outcomes are %v", outcomes)
			}
			for _, want := range []string{
				`"Name":"messaging.client.consumed.messages"`, // on the output
				"\nmessaging_client_sent_messages_total{",     // for Prometheus
				"\nezq_message_latency_seconds_count{",
			} {
				if !strings.Contains(rest, want) {
					t.Errorf("there is no %s", want)
				}
			}
		})
	}
}

func TestAddress_WhenTakenIsReportedAtStart(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), &out, "", "nowhere")
	if err == nil || !strings.Contains(err.Error(), `EZQ_METRICS_ADDRESS "nowhere"`) {
		t.Errorf("the error is %v", err)
	}
	if strings.Contains(out.String(), "publish orders") {
		t.Error("it has published before")
	}
}
