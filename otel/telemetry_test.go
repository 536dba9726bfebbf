package ezqotel_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	ezqotel "github.com/ezq-go/ezq/otel"
)

type Ordered struct{ ID int }

type Shipped struct{ ID int }

// harness is a Telemetry whose reports can be looked at.
type harness struct {
	*ezqotel.Telemetry
	t      *testing.T
	spans  *tracetest.SpanRecorder
	reader *sdkmetric.ManualReader
}

func newHarness(t *testing.T, adjust ...func(*ezqotel.Config)) *harness {
	t.Helper()
	h := &harness{t: t, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	config := ezqotel.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(h.spans)),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(h.reader)),
	}
	for _, a := range adjust {
		a(&config)
	}
	var err error
	if h.Telemetry, err = ezqotel.New(&config); err != nil {
		t.Fatal(err)
	}
	return h
}

// span returns the only span of that name that satisfies all conditions.
func (h *harness) span(name string, conditions ...attribute.KeyValue) sdktrace.ReadOnlySpan {
	h.t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, span := range h.spans.Ended() {
		if span.Name() == name && hasAll(span, conditions) {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d spans %q with %v, not one, among:\n%s", len(found), name, conditions, h.list())
	}
	return found[0]
}

func (h *harness) list() string {
	var text strings.Builder
	for _, span := range h.spans.Ended() {
		text.WriteString(span.Name())
		for _, a := range span.Attributes() {
			text.WriteString(" " + string(a.Key) + "=" + a.Value.String())
		}
		text.WriteString("\n")
	}
	return text.String()
}

func hasAll(span sdktrace.ReadOnlySpan, conditions []attribute.KeyValue) bool {
	set := attribute.NewSet(span.Attributes()...)
	for _, c := range conditions {
		if v, ok := set.Value(c.Key); !ok || v != c.Value {
			return false
		}
	}
	return true
}

func outcome(name string) attribute.KeyValue { return attribute.String("ezq.outcome", name) }

// value returns the sum of the data points of a metric that have all attributes; of a
// histogram the number of values.
func (h *harness) value(name string, conditions ...attribute.KeyValue) (total float64) {
	h.t.Helper()
	var all metricdata.ResourceMetrics
	if err := h.reader.Collect(context.Background(), &all); err != nil {
		h.t.Fatal(err)
	}
	found := false
	add := func(set attribute.Set, v float64) {
		for _, c := range conditions {
			if has, ok := set.Value(c.Key); !ok || has != c.Value {
				return
			}
		}
		total += v
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			found = true
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Count))
				}
			default:
				h.t.Fatalf("%s is a %T", name, data)
			}
		}
	}
	if !found {
		h.t.Fatalf("there is no metric %s", name)
	}
	return total
}

// newBroker returns a queue that is closed when the test ends.
func newBroker(t *testing.T, config memory.Config) *memory.Broker {
	t.Helper()
	broker := memory.New(&config)
	t.Cleanup(func() { _ = broker.Close() })
	return broker
}

// run starts a router in a bubble, calls publish, and stops the router when all is quiet.
func (h *harness) run(broker *memory.Broker, wire func(*ezq.Router), publish func(context.Context, message.Publisher)) {
	h.t.Helper()
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(h.Middleware)
	wire(router)
	ctx, stop := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()
	publish(ctx, h.Publisher(broker))
	synctest.Wait()
	stop()
	if err := <-done; err != nil && !errors.Is(err, ezq.ErrDrainTimeout) {
		h.t.Error(err)
	}
}

func TestNew_NamesMissingProvider(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]ezqotel.Config{
		"TracerProvider": {MeterProvider: metricnoop.NewMeterProvider()},
		"MeterProvider":  {TracerProvider: tracenoop.NewTracerProvider()},
	} {
		if _, err := ezqotel.New(&config); err == nil || !strings.Contains(err.Error(), want+" is nil: pass ") {
			t.Errorf("without a %s: %v", want, err)
		}
	}
}

func TestObserveRouter_RefusesNilRouter(t *testing.T) {
	t.Parallel()
	_, err := newHarness(t).ObserveRouter(nil)
	if err == nil || err.Error() != "ezqotel: ObserveRouter: the router is nil: pass what ezq.NewRouter returns" {
		t.Error(err)
	}
}

func TestPublisher_KeepsFeaturesOfWrapped(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	if got := backend.FeaturesOf(newHarness(t).Publisher(broker)); got != broker.Features() {
		t.Errorf("it promises %+v, not %+v", got, broker.Features())
	}
}
