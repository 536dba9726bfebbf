package ezqotel

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

const processing = "process"

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

// judge says what became of msg, whose handling has returned err.
func (h *handling) judge(msg *message.Message, err error) outcome {
	o := outcome{err: err}
	nacked := isClosed(msg.Nacked())
	if h.delivery != nil && nacked {
		o.back, _ = h.delivery.Disposition()
	}
	cause := context.Cause(h.outer)
	switch {
	case o.back.Letter != nil:
		o.name, o.topic, o.reason = deadLettered, o.back.Letter.Topic, o.back.Letter.Metadata[backend.DeadLetterReason]
	case h.fate.topic.Load() != nil:
		o.name, o.topic, o.reason = deadLettered, *h.fate.topic.Load(), msg.Metadata.Get(backend.DeadLetterReason)
	case err == nil && !nacked:
		o.name = succeeded
	case errors.Is(cause, backend.ErrLeaseLost), errors.Is(err, backend.ErrLeaseLost):
		o.name, o.err = leaseLost, cmp.Or(err, backend.ErrLeaseLost)
	case err == nil, errors.Is(cause, backend.ErrInterrupted), isSnooze(err):
		o.name, o.err = givenBack, nil
	case h.isFinal(err):
		o.name, o.topic = deadLettered, h.topic+"_dead" // as middleware.Poison has it
		o.reason = backend.DeadLetterMetadata(h.topic, h.handler, h.delivery.Failures+1, err)[backend.DeadLetterReason]
	default:
		o.name = failed
	}
	return o
}

// isFinal reports whether ezq's router itself makes a dead letter of a message whose
// handling has returned err. Watermill's does not.
func (h *handling) isFinal(err error) bool {
	return ezq.IsPermanent(err) && h.delivery != nil && h.delivery.DeadLetters && ezq.MetaFromContext(h.outer).Topic != ""
}
