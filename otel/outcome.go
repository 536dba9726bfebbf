package ezqotel

import (
	"errors"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

const outcomeKey = attribute.Key("ezq.outcome")

// The outcomes of a message.
const (
	succeeded    = "succeeded"
	failed       = "failed"
	deadLettered = "dead_lettered"
	released     = "released"
	leaseLost    = "lease_lost"
	cancelled    = "cancelled"
)

type outcome struct {
	name        string
	err         error               // if it failed
	topic       string              // of a dead letter
	reason      string              // of that
	disposition backend.Disposition // of what comes back
}

// errPanicked is what a handler has returned that has not returned.
var errPanicked = errors.New("the handler panicked, or ended its goroutine")

func isSnooze(err error) bool {
	_, ok := ezq.SnoozeDelay(err)
	return ok
}

func (o outcome) record(span trace.Span) {
	span.SetAttributes(outcomeKey.String(o.name))
	if o.err != nil {
		span.RecordError(o.err)
		recordError(span, o.err)
	}
	switch o.name {
	case failed:
		var when []attribute.KeyValue
		if wait, ok := ezq.RetryDelay(o.err); ok {
			when = append(when, attribute.Float64("ezq.retry.delay", wait.Seconds()))
		}
		span.AddEvent("ezq.retry", trace.WithAttributes(when...))
	case deadLettered:
		span.AddEvent("ezq.dead_letter", trace.WithAttributes(
			attribute.String("ezq.dead_letter.topic", o.topic), attribute.String("ezq.dead_letter.reason", o.reason)))
		span.SetStatus(codes.Error, o.reason)
	}
}

// deadLetterWatch is a message being handled, and where it has been published as a dead
// letter: that is how Poison, and Watermill's PoisonQueue, dead-letter a message of a
// backend that cannot move it.
type deadLetterWatch struct {
	id    string
	topic atomic.Pointer[string]
}

type deadLetterWatchKey struct{}

// noteDeadLetter is for a message that has been published to topic.
func noteDeadLetter(msg *message.Message, topic string) {
	watch, ok := msg.Context().Value(deadLetterWatchKey{}).(*deadLetterWatch)
	if ok && watch.id == msg.UUID && msg.Metadata.Get(backend.DeadLetterReason) != "" {
		watch.topic.Store(&topic)
	}
}
