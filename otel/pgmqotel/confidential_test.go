package pgmqotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
	ezqotel "github.com/ezq-go/ezq/otel"
	"github.com/ezq-go/ezq/otel/pgmqotel"
)

const confidential = "c0nfid3ntial"

type Sensitive struct{ Card string }

// observed is a queue and all that is reported about it.
type observed struct {
	*ezqotel.Telemetry
	client *pgmq.Client
	spans  *tracetest.SpanRecorder
	reader *sdkmetric.ManualReader
}

func newObserved(t *testing.T, database string) *observed {
	t.Helper()
	client, err := pgmq.New(pgtest.Pool(t, database), &pgmq.Config{
		Logger:     slog.New(slog.DiscardHandler),
		Publisher:  pgmq.PublisherConfig{NoCreate: true},
		Subscriber: pgmq.SubscriberConfig{NoCreate: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	o := &observed{client: client, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(o.reader))
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(o.spans))
	if o.Telemetry, err = ezqotel.New(&ezqotel.Config{TracerProvider: traces, MeterProvider: meters}); err != nil {
		t.Fatal(err)
	}
	if _, err := pgmqotel.Observe(meters, client, ezq.DefaultTopic, "missing"); err != nil {
		t.Fatal(err)
	}
	return o
}

// exported returns all that was reported, and the errors of doing so.
func (o *observed) exported(t *testing.T) string {
	t.Helper()
	var metrics metricdata.ResourceMetrics
	failure := o.reader.Collect(t.Context(), &metrics)
	all, err := json.Marshal([]any{tracetest.SpanStubsFromReadOnlySpans(o.spans.Ended()), metrics, failure})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%v\n%+v", all, failure, failure)
}

func TestTelemetry_ShowsNoPasswordOrPayload(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	owner := pgtest.Pool(t, database)
	execute := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	execute("select pgmq.create('ezq'), pgmq.create('dead')")
	role := pgtest.Role(t, database, "grant all on schema pgmq to {role}",
		"grant all on all tables in schema pgmq to {role}", "grant all on all sequences in schema pgmq to {role}")
	address, err := url.Parse(role)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := address.User.Password()
	here := newObserved(t, role)
	address.Host = "127.0.0.1:1"
	nowhere := newObserved(t, address.String())

	send := func(o *observed) error {
		return ezq.Publish(t.Context(), o.Publisher(o.client), Sensitive{confidential}, ezq.Header("authorization", confidential))
	}
	if err := errors.Join(send(here), ezq.Publish(t.Context(), here.client, ezq.EndEvent{})); err != nil {
		t.Fatal(err)
	}
	router := ezq.NewRouter(here.client, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
	router.Use(here.Middleware, middleware.Poison{Topic: "dead", Logger: slog.New(slog.DiscardHandler)}.Middleware)
	ezq.Handle(router, func(context.Context, Sensitive) error { return ezq.Permanent(send(nowhere)) })
	if err := router.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute("alter table pgmq.q_ezq add check (message is null)")
	if send(here) == nil {
		t.Error("the row was not refused")
	}
	shown := here.exported(t) + nowhere.exported(t)
	for _, secret := range []string{password, confidential} {
		if at := strings.Index(shown, secret); at >= 0 {
			t.Errorf("it shows %s: …%s", secret, shown[max(0, at-200):at+len(secret)])
		}
	}
	for _, provoked := range []string{"no connection to PostgreSQL", "ezq.dead_letter.reason", "violates check constraint", "queue does not exist"} {
		if !strings.Contains(shown, provoked) {
			t.Errorf("nothing shows %q, so it has not been tried", provoked)
		}
	}
}
