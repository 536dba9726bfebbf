package ezqotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
	ezqotel "github.com/ezq-go/ezq/otel"
)

// confidential is in payloads and metadata, and handlerSays in the errors of handlers.
const (
	confidential = "c0nfid3ntial"
	handlerSays  = "the card was declined"
)

type Sensitive struct {
	Card string
	Made time.Time
}

type Batched struct{ Card string }

// exported returns all that was reported, as JSON.
func (h *harness) exported() (spans, metrics string) {
	h.t.Helper()
	allSpans, err := json.Marshal(tracetest.SpanStubsFromReadOnlySpans(h.spans.Ended()))
	if err != nil {
		h.t.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	if err := h.reader.Collect(context.Background(), &all); err != nil {
		h.t.Fatal(err)
	}
	allMetrics, err := json.Marshal(all)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(allSpans), string(allMetrics)
}

func TestTelemetry_ShowsNoPayload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		failing := errors.New(handlerSays)
		h.run(broker, func(r *ezq.Router) {
			r.Use(middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware)
			if _, err := h.ObserveRouter(r); err != nil {
				t.Fatal(err)
			}
			ezq.Handle(r, func(context.Context, Sensitive) error { return failing })
			ezq.HandleBatch(r, ezqotel.Batch(h.Telemetry, func(context.Context, []Batched) error { return ezq.Permanent(failing) }))
		}, func(ctx context.Context, p message.Publisher) {
			header := ezq.Header("authorization", confidential)
			publish(t, ctx, p, Sensitive{Card: confidential}, header)
			publish(t, ctx, p, Batched{Card: confidential}, header, ezq.Key(confidential))
			for _, payload := range []string{
				`{"_type":"Sensitive","Card":7,"Made":"` + confidential + `"}`, `{"_type":"Sensitive","Made":"` + confidential + `"}`,
				`{"_type":"Unknown","Card":"` + confidential + `"}`, `"` + confidential + `"`,
			} {
				msg := message.NewMessage("1", []byte(payload))
				msg.Metadata.Set("authorization", confidential)
				if err := p.Publish(ezq.DefaultTopic, msg); err != nil {
					t.Error(err)
				}
				_ = h.Publisher(brokenPublisher{}).Publish("orders", msg)
			}
			time.Sleep(25 * time.Hour) // an unknown event fails after a day
		})
		h.requireDocumented()
		spans, metrics := h.exported()
		for what, text := range map[string]string{"span": spans, "metric": metrics} {
			if at := strings.Index(text, confidential); at >= 0 {
				t.Errorf("a %s shows it: …%s", what, text[max(0, at-200):at+len(confidential)])
			}
		}
		for _, shown := range []string{handlerSays, "is not a time in RFC 3339", "no handler for event", "ezq.dead_letter.reason", "no route"} {
			if !strings.Contains(spans, shown) {
				t.Errorf("no span shows %q, so it has not been tried", shown)
			}
		}
		if strings.Contains(metrics, handlerSays) {
			t.Error("a metric has the text of an error")
		}
	})
}

// The documentation lists all attributes, so that readers need not guess what leaves the process.
func (h *harness) requireDocumented() {
	h.t.Helper()
	documentation, err := os.ReadFile("doc.go")
	if err != nil {
		h.t.Fatal(err)
	}
	require := func(attributes []attribute.KeyValue) {
		for _, a := range attributes {
			if !strings.Contains(string(documentation), "//\t"+string(a.Key)+" ") {
				h.t.Errorf("the package documentation does not list the attribute %s", a.Key)
			}
		}
	}
	for _, span := range h.spans.Ended() {
		require(span.Attributes())
		for _, event := range span.Events() {
			require(event.Attributes)
		}
		for _, link := range span.Links() {
			require(link.Attributes)
		}
	}
}
