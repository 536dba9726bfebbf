package ezqotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/ezq-go/ezq/ezq"
)

// Batch gives each call of fn, a handler for [ezq.HandleBatch], a span of its own,
// which is linked to the publish of each event. What fn does with its context is
// below it:
//
//	ezq.HandleBatch(router, ezqotel.Batch(telemetry, index))
//
// The events themselves are reported by [Telemetry.Middleware], one by one.
func Batch[E any](t *Telemetry, fn func(context.Context, []E) error) func(context.Context, []E) error {
	return func(ctx context.Context, events []E) (err error) {
		ctx, span := t.startBatch(ctx, len(events))
		err = errPanicked
		defer func() {
			if err != nil {
				fail(span, err)
			}
			if partly, ok := errors.AsType[ezq.BatchError](err); ok {
				span.SetAttributes(attribute.Int("ezq.batch.failed", len(partly)))
			}
			span.End()
		}()
		return fn(ctx, events)
	}
}

func (t *Telemetry) startBatch(ctx context.Context, size int) (context.Context, trace.Span) {
	var topic, handler string
	var links []trace.Link
	for _, meta := range ezq.MetasFrom(ctx) {
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
