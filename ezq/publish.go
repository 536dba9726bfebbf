package ezq

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/internal/excerpt"
)

// Publish sends event through p, which is a backend, a transaction of one, or
// any other Watermill Publisher. The event becomes JSON as encoding/json writes
// it, under its name ([EventName]).
//
// nil means that p has accepted the event. Publish sends nothing and returns an
// error if ctx has ended, if event cannot be encoded or named (a
// *[EventTypeError]), or if an option is invalid or cannot be kept by p (it
// matches [errors.ErrUnsupported]). Whatever p itself returns is wrapped.
//
// With the context of a handler, the event says where it comes from: its header
// causation_id is the ID of the event being handled, and correlation_id is that
// event's own, or else its ID. [WithCorrelationID] takes the place of that, also outside
// of handlers, and a [Header] of the same name wins over all. In a batch handler
// there is no single cause, so there are no such headers.
//
// Publish may be called concurrently if p may.
func Publish(ctx context.Context, p message.Publisher, event any, opts ...PublishOption) error {
	return publish(ctx, p, []any{event}, opts)
}

// PublishBatch sends all events in one call of p's Publish, in their order, with
// the same options. They need not be of one type: []any will do. If there are
// none, it does nothing.
//
// It checks and encodes every event before it sends the first one, and fails as
// [Publish] does. Whether p stores a batch as a whole is up to p: the backends
// of this module do.
func PublishBatch[E any](ctx context.Context, p message.Publisher, events []E, opts ...PublishOption) error {
	return publish(ctx, p, events, opts)
}

func publish[E any](ctx context.Context, p message.Publisher, events []E, opts []PublishOption) error {
	if len(events) == 0 {
		return nil
	}
	out := outgoing{topic: DefaultTopic}
	if err := send(ctx, p, &out, events, opts); err != nil {
		return fmt.Errorf("ezq: publish %s to %q: %w", describe(events), excerpt.Of(out.topic), err)
	}
	return nil
}

func send[E any](ctx context.Context, p message.Publisher, out *outgoing, events []E, opts []PublishOption) error {
	if err := out.prepare(ctx, p, len(events), opts); err != nil {
		return err
	}
	msgs := make([]*message.Message, len(events))
	for i, event := range events {
		name, wire, err := encode(event)
		if err != nil {
			return inBatch(err, name, i, len(events))
		}
		msgs[i] = out.message(ctx, wire)
	}
	if id := msgs[0].Metadata[correlationHeader]; publishableID(id) != id { // of WithCorrelationID
		return checkHeader(correlationHeader, id)
	}
	out.setConditions(msgs)
	err := p.Publish(out.topic, msgs...)
	out.report(msgs, err)
	return err
}

// inBatch says which of several events err is about.
func inBatch(err error, name string, i, total int) error {
	switch {
	case total == 1:
		return err
	case name == "":
		return fmt.Errorf("event %d of %d: %w", i+1, total, err)
	}
	return fmt.Errorf("event %d of %d, %s: %w", i+1, total, name, err)
}

func describe[E any](events []E) string {
	if len(events) > 1 {
		return fmt.Sprintf("%d events", len(events))
	}
	name, err := nameOfEvent(events[0])
	if err != nil {
		return "an event"
	}
	return name
}
