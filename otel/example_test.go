package ezqotel_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	ezqotel "github.com/ezq-go/ezq/otel"
)

func Example() {
	spans := tracetest.NewSpanRecorder() // where a service has an exporter
	telemetry, err := ezqotel.New(&ezqotel.Config{
		TracerProvider: trace.NewTracerProvider(trace.WithSpanProcessor(spans)),
		MeterProvider:  noop.NewMeterProvider(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	broker := memory.New(nil)
	publisher := telemetry.Publisher(broker)
	router := ezq.NewRouter(broker, nil)
	router.Use(telemetry.Middleware)
	ezq.Handle(router, func(context.Context, Ordered) error { return nil })

	ctx := context.Background()
	_ = ezq.Publish(ctx, publisher, Ordered{ID: 7})
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	fmt.Println("stopped:", router.Run(ctx))

	from, to := spans.Ended()[0], spans.Ended()[1]
	fmt.Println(from.Name(), "→", to.Name())
	fmt.Println("linked:", from.SpanContext().SpanID() == to.Links()[0].SpanContext.SpanID())
	// Output:
	// stopped: <nil>
	// publish ezq → process ezq
	// linked: true
}
