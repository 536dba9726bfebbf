package ezqotel

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/ezq-go/ezq/backend"
)

const publishing = "publish"

// Publisher reports what is published through it. It promises what the publisher
// promises that it wraps.
type Publisher struct {
	telemetry *Telemetry
	inner     message.Publisher
}

var _ message.Publisher = (*Publisher)(nil)

// Features implements part of [backend.Backend]: those of the wrapped publisher.
func (p *Publisher) Features() backend.Features { return backend.FeaturesOf(p.inner) }

// Close closes the wrapped publisher.
func (p *Publisher) Close() error { return p.inner.Close() }

// Publish writes the trace into the metadata of the messages, whose contexts say
// what it belongs to, and publishes them. The error is that of the wrapped publisher.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return p.inner.Publish(topic)
	}
	t, first := p.telemetry, msgs[0].Context()
	_, span := t.tracer.Start(first, publishing+" "+topic,
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithLinks(otherParents(msgs)...),
		trace.WithAttributes(t.sendAttributes(topic, msgs)...))
	defer span.End()

	contexts := make([]context.Context, len(msgs))
	for i, msg := range msgs {
		contexts[i] = msg.Context()
		ctx := trace.ContextWithSpan(contexts[i], span)
		t.config.Propagator.Inject(ctx, propagation.MapCarrier(msg.Metadata))
		msg.SetContext(ctx)
	}
	began := time.Now()
	err := p.inner.Publish(topic, msgs...)
	for i, msg := range msgs {
		msg.SetContext(contexts[i])
		if err == nil {
			noteDeadLetter(msg, topic)
		}
	}
	if err != nil {
		recordError(span, err)
	}
	if tick, ok := skippedTick(first, err); ok {
		span.SetAttributes(attribute.String("ezq.tick", tick))
		return nil
	}
	sent := len(msgs)
	if err == nil {
		sent -= existed(msgs)
		if sent < len(msgs) {
			span.SetAttributes(attribute.Int("ezq.existed", len(msgs)-sent))
		}
	}
	t.countSent(first, topic, sent, time.Since(began), err)
	return err
}

// existed counts the messages of a publish that were not stored, because others were there.
func existed(msgs []*message.Message) (n int) {
	for _, msg := range msgs {
		if result, _ := backend.PublishConditionFromContext(msg.Context()).Result(); result.Outcome == backend.PublishExisted {
			n++
		}
	}
	return n
}

// skippedTick reports whether a publish for a tick of a schedule stored nothing, because
// another process has done it, the time has not come, or the schedule is paused, or was.
func skippedTick(ctx context.Context, err error) (why string, ok bool) {
	if err != nil {
		return "", false
	}
	switch result, _ := backend.ScheduleTickFromContext(ctx).Result(); result.Outcome {
	case backend.TickTaken:
		return "taken", true
	case backend.TickEarly:
		return "early", true
	case backend.TickPaused:
		return "paused", true
	default:
		return "", false
	}
}

// otherParents are links to the spans that messages of a batch belong to, besides
// that of the first one, which is the parent.
func otherParents(msgs []*message.Message) (links []trace.Link) {
	seen := map[trace.SpanID]bool{trace.SpanContextFromContext(msgs[0].Context()).SpanID(): true}
	for _, msg := range msgs[1:] {
		parent := trace.SpanContextFromContext(msg.Context())
		if parent.IsValid() && !seen[parent.SpanID()] {
			seen[parent.SpanID()] = true
			links = append(links, trace.Link{SpanContext: parent})
		}
	}
	return links
}

// messageAttributes are the attributes of a span for a single message.
func messageAttributes(msg *message.Message) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.MessagingMessageID(truncateID(msg.UUID)),
		semconv.MessagingMessageBodySize(len(msg.Payload)),
	}
	if id := msg.Metadata.Get("correlation_id"); id != "" {
		attributes = append(attributes, semconv.MessagingMessageConversationID(truncateID(id)))
	}
	return attributes
}

// truncateID is as much of an id as a span has. One that a program without ezq has made may
// have any length.
func truncateID(id string) string {
	if len(id) <= backend.MaxID {
		return id
	}
	const more = "…"
	return strings.ToValidUTF8(id[:backend.MaxID-len(more)], "") + more
}

func recordError(span trace.Span, err error) {
	span.SetStatus(codes.Error, err.Error())
	span.SetAttributes(errorType(err))
}

// errorType names the type of the error at the bottom of err, without what has been
// wrapped around it on its way.
func errorType(err error) attribute.KeyValue {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return semconv.ErrorType(err)
}
