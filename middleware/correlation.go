package middleware

import (
	"cmp"
	"slices"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/ezq"
)

// correlationIDKey is Watermill's, so its CorrelationID and this one understand each
// other.
const correlationIDKey = "correlation_id"

// CorrelationID makes sure that a message is handled under a correlation id, which
// ties together all that followed from one cause: the one it brings, in its metadata
// correlation_id, or else a new one. Handlers and loggers get it with
// [ezq.CorrelationIDFromContext], and [ezq.Publish] sends it along. In an ezq router it is only
// needed for ids of the program's choice: there, what an event that brings none leads
// to goes by the ID of that event.
//
// Messages that a handler returns for Watermill's router to publish get it too,
// unless they have one.
type CorrelationID struct {
	// New makes the id for a message that brings none. Defaults to the UUID of the
	// message, which stays the same for each of its deliveries, and to a new UUID if
	// it has none.
	New func(msg *message.Message) string
}

// Middleware implements [message.HandlerMiddleware].
func (p CorrelationID) Middleware(next message.HandlerFunc) message.HandlerFunc {
	if p.New == nil {
		p.New = func(msg *message.Message) string { return cmp.Or(msg.UUID, watermill.NewUUID()) }
	}
	return func(msg *message.Message) ([]*message.Message, error) {
		id := msg.Metadata.Get(correlationIDKey)
		if id == "" {
			id = p.New(msg)
		}
		ctx := msg.Context()
		defer msg.SetContext(ctx)
		msg.SetContext(ezq.WithCorrelationID(ctx, id))
		out, err := next(msg)
		return withCorrelationID(out, id), err
	}
}

// withCorrelationID returns msgs with id in all of them. Those of the handler are not
// changed: it may have returned one that it did not make.
func withCorrelationID(msgs []*message.Message, id string) []*message.Message {
	msgs = slices.Clone(msgs)
	for i, msg := range msgs {
		if msg != nil && msg.Metadata.Get(correlationIDKey) == "" {
			msgs[i] = msg.CopyWithContext()
			msgs[i].Metadata.Set(correlationIDKey, id)
		}
	}
	return msgs
}
