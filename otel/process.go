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

// invocation is one message with its handler.
type invocation struct {
	telemetry  *Telemetry
	outer      context.Context // of the message, without the span
	span       trace.Span
	topic      string
	handler    string
	start      time.Time
	delivery   *backend.Delivery // or nil
	deadLetter *deadLetterWatch
}

func (i *invocation) attributes(msg *message.Message, event string) []attribute.KeyValue {
	attributes := append(messageAttributes(msg),
		semconv.MessagingSystemKey.String(i.telemetry.config.System),
		semconv.MessagingOperationName(processing),
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(i.topic),
	)
	if event != "" {
		attributes = append(attributes, attribute.String("ezq.event", event))
	}
	if i.handler != "" {
		attributes = append(attributes, handlerKey.String(i.handler))
	}
	if d := i.delivery; d != nil && d.Number > 0 {
		attributes = append(attributes, attribute.Int("ezq.delivery", d.Number), attribute.Int("ezq.failures", d.Failures))
	}
	return attributes
}

const handlerKey = attribute.Key("ezq.handler")

// setParent makes what the handler has returned, for Watermill's router to publish, part
// of the trace. ezq.Publish needs no such help: it is given the context.
func (i *invocation) setParent(out []*message.Message) {
	for _, msg := range out {
		if !trace.SpanContextFromContext(msg.Context()).IsValid() {
			msg.SetContext(trace.ContextWithSpan(msg.Context(), i.span))
		}
	}
}

func (i *invocation) end(msg *message.Message, err error) {
	msg.SetContext(i.outer)
	o := i.determineOutcome(msg, err)
	o.record(i.span)
	i.span.End()

	in, system := i.telemetry.instruments, messagingconv.SystemAttr(i.telemetry.config.System)
	took := time.Since(i.start)
	counted := []attribute.KeyValue{semconv.MessagingDestinationName(i.topic), handlerKey.String(i.handler), outcomeKey.String(o.name)}
	in.active.Add(i.outer, -1, i.metricAttributes())
	in.consumed.Add(i.outer, 1, processing, system, counted...)
	if o.err != nil {
		counted = append(counted, errorType(o.err))
	}
	in.process.Record(i.outer, took.Seconds(), processing, system, counted...)
	if i.delivery != nil && o.name == succeeded && !i.delivery.PublishedAt.IsZero() {
		waited := max(time.Since(i.delivery.PublishedAt), 0) // the clocks may differ
		in.latency.Record(i.outer, waited.Seconds(), i.metricAttributes())
	}
}

// metricAttributes are the attributes of ezq's own metrics.
func (i *invocation) metricAttributes() metric.MeasurementOption {
	return metric.WithAttributes(
		semconv.MessagingSystemKey.String(i.telemetry.config.System),
		semconv.MessagingDestinationName(i.topic),
		handlerKey.String(i.handler),
	)
}

// determineOutcome says what became of msg, whose handling has returned err.
func (i *invocation) determineOutcome(msg *message.Message, err error) outcome {
	o := outcome{err: err}
	nacked := backend.Nacked(msg)
	if i.delivery != nil && nacked {
		o.disposition, _ = i.delivery.Disposition()
	}
	cause := context.Cause(i.outer)
	switch {
	case o.disposition.Target != nil:
		o.name, o.topic, o.reason = deadLettered, o.disposition.Target.Topic, o.disposition.Target.Metadata[backend.DeadLetterReason]
	case i.deadLetter.topic.Load() != nil:
		o.name, o.topic, o.reason = deadLettered, *i.deadLetter.topic.Load(), msg.Metadata.Get(backend.DeadLetterReason)
	case err == nil && !nacked:
		o.name = succeeded
	case errors.Is(cause, backend.ErrCancelled):
		o.name, o.err = cancelled, nil
	case errors.Is(cause, backend.ErrLeaseLost), errors.Is(err, backend.ErrLeaseLost):
		o.name, o.err = leaseLost, cmp.Or(err, backend.ErrLeaseLost)
	case err == nil, errors.Is(cause, backend.ErrInterrupted), isSnooze(err):
		o.name, o.err = released, nil
	case i.isFinal(err):
		o.name, o.topic = deadLettered, i.topic+backend.DeadLetterSuffix
		o.reason = backend.DeadLetterMetadata(i.topic, i.handler, i.delivery.Failures+1, err)[backend.DeadLetterReason]
	default:
		o.name = failed
	}
	return o
}

// isFinal reports whether ezq's router itself makes a dead letter of a message whose
// handling has returned err. Watermill's does not.
func (i *invocation) isFinal(err error) bool {
	return ezq.IsPermanent(err) && i.delivery != nil && i.delivery.DeadLetters && ezq.MetaFromContext(i.outer).Topic != ""
}
