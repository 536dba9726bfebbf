package ezqotel

import (
	"cmp"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	// ScopeName is the name of the instrumentation scope of all that this module
	// reports.
	ScopeName = "github.com/ezq-go/ezq/otel"

	// SchemaURL is the version of the semantic conventions that it follows.
	SchemaURL = semconv.SchemaURL
)

// Config says where telemetry goes.
type Config struct {
	// TracerProvider and MeterProvider are required. To do without traces or
	// without metrics, pass the one of OpenTelemetry's packages trace/noop and
	// metric/noop.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider

	// Propagator writes the trace into the metadata of messages, and reads it from
	// there. Defaults to W3C's trace context and baggage.
	Propagator propagation.TextMapPropagator

	// System is the attribute messaging.system. Defaults to "ezq". For another
	// Watermill Pub/Sub it is the name in the semantic conventions, as in "kafka".
	System string

	// ContinueTraces has each handling continue the trace of the publish, with its sampling
	// decision and its baggage, as the metadata of the message say them. It is for queues
	// whose publishers are all trusted. Otherwise a handling begins a trace of its own, which is
	// linked to the publish, and gets no baggage: who may publish can neither have spans
	// recorded, nor put them into traces of others, nor tell handlers who the tenant is.
	ContinueTraces bool
}

// Telemetry reports traces and metrics. Create it with [New]. Its methods may be
// called concurrently.
type Telemetry struct {
	config      Config
	tracer      trace.Tracer
	meter       metric.Meter
	instruments instruments
}

// New returns a Telemetry that reports to the providers of config. It returns an error
// if one of them is nil, or refuses an instrument. The providers stay the caller's,
// who shuts them down when the router has stopped.
func New(config Config) (*Telemetry, error) {
	if config.TracerProvider == nil {
		return nil, errors.New("ezqotel: Config.TracerProvider is nil: pass otel.GetTracerProvider(), or that of trace/noop to do without traces")
	}
	if config.MeterProvider == nil {
		return nil, errors.New("ezqotel: Config.MeterProvider is nil: pass otel.GetMeterProvider(), or that of metric/noop to do without metrics")
	}
	if config.Propagator == nil {
		config.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	config.System = cmp.Or(config.System, "ezq")
	t := &Telemetry{
		config: config,
		tracer: config.TracerProvider.Tracer(ScopeName, trace.WithSchemaURL(SchemaURL)),
		meter:  config.MeterProvider.Meter(ScopeName, metric.WithSchemaURL(SchemaURL)),
	}
	var err error
	if t.instruments, err = newInstruments(t.meter); err != nil {
		return nil, fmt.Errorf("ezqotel: the meter provider refuses an instrument: %w", err)
	}
	return t, nil
}
