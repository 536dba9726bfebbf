package ezq

import (
	"cmp"
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Events that a handler publishes with its context say where they come from.
const (
	correlationHeader = "correlation_id" // as Watermill's CorrelationID has it
	causationHeader   = "causation_id"
)

type correlationKey struct{}

// correlation is an id that somebody has put into a context. It counts for the event
// that was being handled there, and not for one that is handled further down.
type correlation struct {
	id     string
	within *handling
}

// WithCorrelationID returns a context in which everything belongs to id: [Publish]
// sends it along, and [CorrelationIDFromContext] and [Meta] have it. A service that receives
// requests puts the ids of those into its contexts; a middleware can give one to an
// event that has none. An id is UTF-8 without NUL, of at most [backend.MaxID] bytes, or else
// Publish refuses it.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, correlation{id, handlingFrom(ctx)})
}

// CorrelationIDFromContext returns what ties together all that followed from one cause: the id
// that was put into ctx, or else the one that the event being handled in ctx has in
// its header correlation_id. It is "" if there is none, or one of more than
// [backend.MaxID] bytes.
func CorrelationIDFromContext(ctx context.Context) string {
	h := handlingFrom(ctx)
	if c, ok := ctx.Value(correlationKey{}).(correlation); ok && c.within == h {
		return c.id
	}
	if h == nil {
		return ""
	}
	return known(h.headers[correlationHeader])
}

// known returns id, or "" if nothing that is published could have it: it comes from a
// program that does not use ezq, and what follows from its event has to be published.
func known(id string) string {
	if len(id) > backend.MaxID || !isText(id) {
		return ""
	}
	return id
}

// setCause notes on a message to be published which event is being handled in ctx,
// and what that belongs to.
func setCause(ctx context.Context, metadata message.Metadata) {
	cause := ""
	if h := handlingFrom(ctx); h != nil {
		cause = known(h.meta.ID) // of a batch there is none
	}
	if id := cmp.Or(CorrelationIDFromContext(ctx), cause); id != "" {
		metadata.Set(correlationHeader, id)
	}
	if cause != "" {
		metadata.Set(causationHeader, cause)
	}
}
