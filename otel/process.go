package ezqotel

import (
	"cmp"
	"context"
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

const processing = "process"

// Middleware reports what becomes of messages. It implements
// [message.HandlerMiddleware], for ezq's router and for Watermill's.
//
// It is to be the first one, the outermost: then it sees what Retry and Poison
// decide. Further in it sees each attempt that is made in the process, and takes a
// failure for one that will be tried again.
func (t *Telemetry) Middleware(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (out []*message.Message, err error) {
		h := t.begin(msg)
		err = errPanicked
		defer func() { h.end(msg, err) }() // also in a panic, which goes on
		out, err = next(msg)
		h.adopt(out)
		return out, err
	}
}

// handling is one message with its handler.
type handling struct {
	telemetry *Telemetry
	outer     context.Context // of the message, without the span
	span      trace.Span
	topic     string
	handler   string
	began     time.Time
	delivery  *backend.Delivery // or nil
	fate      *published
}

func (t *Telemetry) begin(msg *message.Message) *handling {
	outer := msg.Context()
	meta := ezq.MetaFrom(outer)
	h := &handling{
		telemetry: t,
		outer:     outer,
		topic:     cmp.Or(meta.Topic, message.SubscribeTopicFromCtx(outer)),
		handler:   cmp.Or(meta.Handler, message.HandlerNameFromCtx(outer)),
		began:     time.Now(),
		delivery:  backend.DeliveryFrom(outer),
		fate:      &published{id: msg.UUID},
	}
	ctx, options := t.cause(outer, msg)
	ctx, h.span = t.tracer.Start(ctx, processing+" "+h.topic, append(options,
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(h.attributes(msg, meta.Event)...))...)
	msg.SetContext(context.WithValue(ctx, publishedKey{}, h.fate))
	t.instruments.active.Add(outer, 1, h.counted())
	return h
}

// cause reads from msg which publish it comes from, and makes that a link of the next span
// in ctx, or its parent if messages are trusted to say so. A span that is in ctx already
// stays the parent.
func (t *Telemetry) cause(ctx context.Context, msg *message.Message) (context.Context, []trace.SpanStartOption) {
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

func (h *handling) attributes(msg *message.Message, event string) []attribute.KeyValue {
	attributes := append(aboutMessage(msg),
		semconv.MessagingSystemKey.String(h.telemetry.config.System),
		semconv.MessagingOperationName(processing),
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(h.topic),
	)
	if event != "" {
		attributes = append(attributes, attribute.String("ezq.event", event))
	}
	if h.handler != "" {
		attributes = append(attributes, handlerKey.String(h.handler))
	}
	if d := h.delivery; d != nil && d.Number > 0 {
		attributes = append(attributes, attribute.Int("ezq.delivery", d.Number), attribute.Int("ezq.failures", d.Failures))
	}
	return attributes
}

const handlerKey = attribute.Key("ezq.handler")

// adopt makes what the handler has returned, for Watermill's router to publish, part
// of the trace. ezq.Publish needs no such help: it is given the context.
func (h *handling) adopt(out []*message.Message) {
	for _, msg := range out {
		if !trace.SpanContextFromContext(msg.Context()).IsValid() {
			msg.SetContext(trace.ContextWithSpan(msg.Context(), h.span))
		}
	}
}

func (h *handling) end(msg *message.Message, err error) {
	msg.SetContext(h.outer)
	o := h.judge(msg, err)
	o.describe(h.span)
	h.span.End()

	in, system := h.telemetry.instruments, messagingconv.SystemAttr(h.telemetry.config.System)
	took := time.Since(h.began)
	counted := []attribute.KeyValue{semconv.MessagingDestinationName(h.topic), handlerKey.String(h.handler), outcomeKey.String(o.name)}
	in.active.Add(h.outer, -1, h.counted())
	in.consumed.Add(h.outer, 1, processing, system, counted...)
	if o.err != nil {
		counted = append(counted, errorType(o.err))
	}
	in.process.Record(h.outer, took.Seconds(), processing, system, counted...)
	if h.delivery != nil && o.name == succeeded && !h.delivery.PublishedAt.IsZero() {
		waited := max(time.Since(h.delivery.PublishedAt), 0) // the clocks may differ
		in.latency.Record(h.outer, waited.Seconds(), h.counted())
	}
}

// counted are the attributes of ezq's own metrics.
func (h *handling) counted() metric.MeasurementOption {
	return metric.WithAttributes(
		semconv.MessagingSystemKey.String(h.telemetry.config.System),
		semconv.MessagingDestinationName(h.topic),
		handlerKey.String(h.handler),
	)
}
