package ezq

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// MetaFromContext returns the Meta of the event that is being handled in ctx. Outside
// of a handler and its middleware it returns the zero Meta.
func MetaFromContext(ctx context.Context) Meta {
	meta := invocationFrom(ctx).copyMeta()
	meta.CorrelationID = CorrelationIDFromContext(ctx)
	return meta
}

// MetasFromContext returns the Metas of the events that are being handled in ctx, by a
// handler of [HandleBatch], in the order of the events. There [MetaFromContext] returns
// only what they have in common: Event, Topic and Handler. In a handler of single
// events MetasFromContext returns its one Meta, and outside of handlers nil.
func MetasFromContext(ctx context.Context) []Meta {
	inv := invocationFrom(ctx)
	switch {
	case inv == nil:
		return nil
	case inv.batch == nil:
		return []Meta{MetaFromContext(ctx)}
	}
	metas := make([]Meta, len(inv.batch))
	for i, one := range inv.batch {
		metas[i] = one.copyMeta()
	}
	return metas
}

// LoggerFromContext returns the logger of the router that handles the event of ctx, for what
// handlers and middleware have to report: see [Config]. Outside of a handler and its
// middleware it returns [slog.Default].
func LoggerFromContext(ctx context.Context) *slog.Logger {
	if inv := invocationFrom(ctx); inv != nil && inv.logger != nil {
		return inv.logger
	}
	return slog.Default()
}

// StoppingFromContext returns a channel that is closed when the router whose handler runs
// in ctx begins to stop. A handler that takes long can look at it and
// finish early: its context itself ends only when the router does not wait any
// longer. Outside of a handler the channel is nil.
func StoppingFromContext(ctx context.Context) <-chan struct{} {
	if inv := invocationFrom(ctx); inv != nil && inv.delivery != nil {
		return inv.delivery.consumer.run.life.fetching.Done()
	}
	return backend.ConsumerFromContext(ctx).Stopping
}

type correlationKey struct{}

// correlation is an id that [WithCorrelationID] has put into a context. It counts for the event
// that was being handled there, and not for one that is handled further down.
type correlation struct {
	id     string
	within *invocation
}

// WithCorrelationID returns a context in which everything belongs to id: [Publish]
// sends it along, and [CorrelationIDFromContext] and [Meta] have it. A service that receives
// requests puts the ids of those into its contexts; a middleware can give one to an
// event that has none. An id is UTF-8 without NUL, of at most [backend.MaxID] bytes, or else
// Publish refuses it.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, correlation{id, invocationFrom(ctx)})
}

// CorrelationIDFromContext returns what ties together all that followed from one cause: the id
// that was put into ctx, or else the one that the event being handled in ctx has in
// its header correlation_id. It is "" if there is none, or one of more than
// [backend.MaxID] bytes.
func CorrelationIDFromContext(ctx context.Context) string {
	inv := invocationFrom(ctx)
	if c, ok := ctx.Value(correlationKey{}).(correlation); ok && c.within == inv {
		return c.id
	}
	if inv == nil {
		return ""
	}
	return publishableID(inv.headers[correlationHeader])
}

// setCause writes into the metadata of a message to be published which event is being
// handled in ctx, and what that belongs to.
func setCause(ctx context.Context, metadata message.Metadata) {
	cause := ""
	if inv := invocationFrom(ctx); inv != nil {
		cause = publishableID(inv.meta.ID) // of a batch there is none
	}
	if id := cmp.Or(CorrelationIDFromContext(ctx), cause); id != "" {
		metadata.Set(correlationHeader, id)
	}
	if cause != "" {
		metadata.Set(causationHeader, cause)
	}
}
