package ezqotel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
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
	// linked to the publish, and gets no baggage: a publisher can neither have spans recorded,
	// nor put them into traces of others, nor tell handlers the tenant.
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

func (t *Telemetry) startBatch(ctx context.Context, size int) (context.Context, trace.Span) {
	var topic, handler string
	var links []trace.Link
	for _, meta := range ezq.MetasFromContext(ctx) {
		topic, handler = meta.Topic, meta.Handler
		from := t.config.Propagator.Extract(context.Background(), propagation.MapCarrier(meta.Headers))
		if origin := trace.SpanContextFromContext(from); origin.IsValid() {
			links = append(links, trace.Link{
				SpanContext: origin, Attributes: []attribute.KeyValue{semconv.MessagingMessageID(meta.ID)},
			})
		}
	}
	return t.tracer.Start(ctx, processing+" "+topic,
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(links...),
		trace.WithAttributes(
			semconv.MessagingSystemKey.String(t.config.System),
			semconv.MessagingOperationName(processing),
			semconv.MessagingOperationTypeProcess,
			semconv.MessagingDestinationName(topic),
			semconv.MessagingBatchMessageCount(size),
			handlerKey.String(handler),
		))
}

// Middleware reports what becomes of messages. It implements
// [message.HandlerMiddleware], for ezq's router and for Watermill's.
//
// It is to be the first one, the outermost: then it sees what Retry and Poison
// decide. Further in it sees each attempt that is made in the process, and takes a
// failure for one that will be tried again.
func (t *Telemetry) Middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (out []*message.Message, err error) {
		i := t.beginInvocation(msg)
		err = errPanicked
		defer func() { i.end(msg, err) }() // also in a panic, which goes on
		out, err = next(msg)
		i.setParent(out)
		return out, err
	}
}

func (t *Telemetry) beginInvocation(msg *message.Message) *invocation {
	outer := msg.Context()
	meta := ezq.MetaFromContext(outer)
	i := &invocation{
		telemetry:  t,
		outer:      outer,
		topic:      cmp.Or(meta.Topic, message.SubscribeTopicFromCtx(outer)),
		handler:    cmp.Or(meta.Handler, message.HandlerNameFromCtx(outer)),
		start:      time.Now(),
		delivery:   backend.DeliveryFromContext(outer),
		deadLetter: &deadLetterWatch{id: msg.UUID},
	}
	ctx, options := t.parentAndLinks(outer, msg)
	ctx, i.span = t.tracer.Start(ctx, processing+" "+i.topic, append(options,
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(i.attributes(msg, meta.Event)...))...)
	msg.SetContext(context.WithValue(ctx, deadLetterWatchKey{}, i.deadLetter))
	t.instruments.active.Add(outer, 1, i.metricAttributes())
	return i
}

// parentAndLinks reads from msg which publish it comes from, and makes that a link of the next span
// in ctx, or its parent if messages are trusted to say so. A span that is in ctx already
// stays the parent.
func (t *Telemetry) parentAndLinks(ctx context.Context, msg *message.Message) (context.Context, []trace.SpanStartOption) {
	ambient := trace.SpanContextFromContext(ctx)
	from := t.config.Propagator.Extract(ctx, propagation.MapCarrier(msg.Metadata))
	origin := trace.SpanContextFromContext(from)
	obeyed := ctx
	if t.config.ContinueTraces {
		obeyed = from
	}
	switch {
	case !origin.IsRemote() || !origin.IsValid(): // it says nothing
		return obeyed, nil
	case ambient.IsValid():
		return trace.ContextWithSpanContext(obeyed, ambient), []trace.SpanStartOption{trace.WithLinks(trace.Link{SpanContext: origin})}
	case t.config.ContinueTraces:
		return obeyed, nil
	}
	return obeyed, []trace.SpanStartOption{trace.WithLinks(trace.Link{SpanContext: origin})}
}

// Publisher wraps p, which is a backend, a transaction of one, or any other Watermill
// Publisher. It panics if p is nil.
func (t *Telemetry) Publisher(p message.Publisher) *Publisher {
	if p == nil {
		panic("ezqotel: Publisher: the publisher is nil")
	}
	return &Publisher{telemetry: t, inner: p}
}

func (t *Telemetry) sendAttributes(topic string, msgs []*message.Message) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKey.String(t.config.System),
		semconv.MessagingOperationName(publishing),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(topic),
	}
	if len(msgs) > 1 {
		return append(attributes, semconv.MessagingBatchMessageCount(len(msgs)))
	}
	return append(attributes, messageAttributes(msgs[0])...)
}

func (t *Telemetry) countSent(ctx context.Context, topic string, n int, took time.Duration, err error) {
	system := messagingconv.SystemAttr(t.config.System)
	attributes := []attribute.KeyValue{semconv.MessagingDestinationName(topic)}
	if err != nil {
		attributes = append(attributes, errorType(err))
	}
	t.instruments.sent.Add(ctx, int64(n), publishing, system, attributes...)
	t.instruments.duration.Record(ctx, took.Seconds(), publishing, system,
		append(attributes, semconv.MessagingOperationTypeSend)...)
}

// ObserveRouter reports, whenever metrics are collected, what router knows:
//
//	ezq.router.ready       1 if Router.Ready returns nil, otherwise 0
//	ezq.router.in_flight   messages claimed and not settled, those included that wait
//	ezq.router.paused      1 if Router.Pause holds for the topic, otherwise 0
//	ezq.router.unknown     deliveries released because no handler takes them
//	ezq.router.ignored     events acked, as Router.Ignore says
//	ezq.router.dropped     events acked, since they have expired
//
// Unregister what it returns before another router of the same topics is observed.
// It returns an error if router is nil, or the meter provider refuses an instrument.
func (t *Telemetry) ObserveRouter(router *ezq.Router) (metric.Registration, error) {
	if router == nil {
		return nil, errors.New("ezqotel: ObserveRouter: the router is nil: pass what ezq.NewRouter returns")
	}
	var errs [6]error
	var ready, inFlight, paused metric.Int64ObservableGauge
	ready, errs[0] = t.meter.Int64ObservableGauge("ezq.router.ready",
		metric.WithDescription("Whether the router runs and receives messages."))
	inFlight, errs[1] = t.meter.Int64ObservableGauge("ezq.router.in_flight",
		metric.WithUnit("{message}"), metric.WithDescription("Messages claimed and not settled, waiting ones included."))
	paused, errs[2] = t.meter.Int64ObservableGauge("ezq.router.paused",
		metric.WithDescription("Whether the router has paused the topic."))
	var unknown, ignored, dropped metric.Int64ObservableCounter
	unknown, errs[3] = t.meter.Int64ObservableCounter("ezq.router.unknown",
		metric.WithUnit("{message}"), metric.WithDescription("Deliveries released because no handler takes them."))
	ignored, errs[4] = t.meter.Int64ObservableCounter("ezq.router.ignored",
		metric.WithUnit("{message}"), metric.WithDescription("Messages acked because the router is to ignore them."))
	dropped, errs[5] = t.meter.Int64ObservableCounter("ezq.router.dropped",
		metric.WithUnit("{message}"), metric.WithDescription("Messages acked because they have expired."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("ezqotel: the meter provider refuses an instrument: %w", err)
	}
	return t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(ready, boolToInt(router.Ready() == nil))
		for topic, stats := range router.Stats() {
			at := metric.WithAttributes(semconv.MessagingDestinationName(topic))
			o.ObserveInt64(inFlight, stats.InFlight, at)
			o.ObserveInt64(paused, boolToInt(stats.Paused), at)
			o.ObserveInt64(unknown, stats.Unknown, at)
			o.ObserveInt64(ignored, stats.Ignored, at)
			o.ObserveInt64(dropped, stats.Dropped, at)
		}
		return nil
	}, ready, inFlight, paused, unknown, ignored, dropped)
}

// New returns a Telemetry that reports to the providers of config. It returns an error
// if one of them is nil, or refuses an instrument. The caller owns the providers, and
// shuts them down when the router has stopped.
func New(config *Config) (*Telemetry, error) {
	var settings Config
	if config != nil {
		settings = *config
	}
	if settings.TracerProvider == nil {
		return nil, errors.New("ezqotel: Config.TracerProvider is nil: pass otel.GetTracerProvider(), or that of trace/noop to do without traces")
	}
	if settings.MeterProvider == nil {
		return nil, errors.New("ezqotel: Config.MeterProvider is nil: pass otel.GetMeterProvider(), or that of metric/noop to do without metrics")
	}
	if settings.Propagator == nil {
		settings.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	settings.System = cmp.Or(settings.System, "ezq")
	t := &Telemetry{
		config: settings,
		tracer: settings.TracerProvider.Tracer(ScopeName, trace.WithSchemaURL(SchemaURL)),
		meter:  settings.MeterProvider.Meter(ScopeName, metric.WithSchemaURL(SchemaURL)),
	}
	var err error
	if t.instruments, err = newInstruments(t.meter); err != nil {
		return nil, fmt.Errorf("ezqotel: the meter provider refuses an instrument: %w", err)
	}
	return t, nil
}

func boolToInt(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
