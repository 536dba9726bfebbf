package pgmqotel_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	ezqotel "github.com/ezq-go/ezq/otel"
	"github.com/ezq-go/ezq/otel/pgmqotel"
)

type Ordered struct{ ID int }

func open(t *testing.T, database string) *pgmq.Client {
	t.Helper()
	client, err := pgmq.Open(t.Context(), database, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestObserve_NamesMissingArgument(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"the meter provider is nil": second(pgmqotel.Observe(nil, nil)),
		"the client is nil":         second(pgmqotel.Observe(metricnoop.NewMeterProvider(), nil)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func second(_ any, err error) error { return err }

func TestTrace_CrossesPostgreSQLWithMeasuredQueue(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	here, there := open(t, database), open(t, database)
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	telemetry, err := ezqotel.New(&ezqotel.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), MeterProvider: meters,
		ContinueTraces: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pgmqotel.Observe(meters, there, ezq.DefaultTopic); err != nil {
		t.Fatal(err)
	}
	for _, event := range []any{Ordered{1}, Ordered{2}, ezq.EndEvent{}} {
		if err := ezq.Publish(t.Context(), telemetry.Publisher(here), event); err != nil {
			t.Fatal(err)
		}
	}
	if got := collect(t, reader)["ezq.queue.visible"]; got != 3 {
		t.Errorf("%v messages are visible, not 3", got)
	}
	if got := collect(t, reader)["ezq.queue.oldest_age"]; got <= 0 {
		t.Errorf("the oldest is %v s old", got)
	}

	router := ezq.NewRouter(there, nil)
	router.Use(telemetry.Middleware)
	ezq.Handle(router, func(context.Context, Ordered) error { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := router.Run(ctx); err != nil {
		t.Fatal(err)
	}
	published, processed := traces(spans, "publish ezq"), traces(spans, "process ezq")
	if len(processed) != 2 {
		t.Errorf("%d messages were handled, not 2", len(processed))
	}
	for trace := range processed {
		if !published[trace] {
			t.Error("a handler is not in the trace of its publish")
		}
	}
	got := collect(t, reader)
	for name, want := range map[string]float64{
		"ezq.queue.visible": 0, "ezq.queue.invisible": 0, "ezq.subscription.claimed": 3, "ezq.subscription.settled acked": 3,
		"ezq.subscription.settled too_late": 0, "ezq.subscription.leases_lost": 0, "ezq.subscription.quarantined": 0, "ezq.subscription.failing": 0,
		"ezq.subscription.paused": 0,
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v, not %v", name, value, want)
		}
	}
}

func TestObserve_MeasuresGroupsSeparately(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	var client *pgmq.Client
	for _, group := range []string{"mailer", "billing"} {
		var err error
		if client, err = pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if err := client.SubscribeInitialize("orders"); err != nil {
			t.Fatal(err)
		}
		if _, err := pgmqotel.Observe(meters, client, "orders"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Subscribe(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if err := ezq.Publish(t.Context(), client, Ordered{1}, ezq.Topic("orders"), ezq.Delay(time.Hour)); err != nil {
		t.Fatal(err)
	}
	got := collect(t, reader)
	for _, name := range []string{"ezq.queue.invisible of mailer", "ezq.queue.invisible of billing"} {
		if got[name] != 1 {
			t.Errorf("%s is %v, not 1: %v", name, got[name], got)
		}
	}
	if _, there := got["ezq.subscription.failing of billing"]; !there {
		t.Errorf("the subscription of the group is not told apart: %v", got)
	}
}

func TestObserve_TellsThatATopicIsPaused(t *testing.T) {
	t.Parallel()
	client, err := pgmq.Open(t.Context(), pgtest.Database(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	reader := sdkmetric.NewManualReader()
	if _, err := pgmqotel.Observe(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), client); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "the bank is down"}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Subscribe(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, reader); got["ezq.subscription.paused"] != 1 {
		t.Errorf("the pause is not told: %v", got)
	}
}

func traces(spans *tracetest.SpanRecorder, name string) map[[16]byte]bool {
	found := map[[16]byte]bool{}
	for _, span := range spans.Ended() {
		if span.Name() == name {
			found[span.SpanContext().TraceID()] = true
		}
	}
	return found
}

// collect returns the last value of each metric; a settlement is part of the name.
func collect(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	note := func(name string, set attribute.Set, value float64) {
		if settlement, ok := set.Value("ezq.settlement"); ok {
			name += " " + settlement.AsString()
		}
		if group, ok := set.Value("messaging.consumer.group.name"); ok {
			name += " of " + group.AsString()
		}
		found[name] = value
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes, float64(p.Value))
				}
			}
		}
	}
	return found
}
