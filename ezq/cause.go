package ezq

import (
	"cmp"
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Events that a handler publishes with its context say where they come from.
const (
	correlationHeader = "correlation_id" // as Watermill's CorrelationID has it
	causationHeader   = "causation_id"
)

// setCause notes on a message to be published which event is being handled in ctx,
// and what that belongs to.
func setCause(ctx context.Context, metadata message.Metadata) {
	h := handlingFrom(ctx)
	if h == nil || h.meta.ID == "" {
		return
	}
	metadata.Set(correlationHeader, cmp.Or(h.headers[correlationHeader], h.meta.ID))
	metadata.Set(causationHeader, h.meta.ID)
}
