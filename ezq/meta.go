package ezq

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Meta is what is known about an event beside the event itself.
type Meta struct {
	ID    string // the same for every delivery of the event
	Event string // the name that the event's handler is for
	Topic string

	// Handler is the [Name] of the handler, or else that of its event.
	Handler string

	// Delivery counts the deliveries of the event, from 1, without those that were taken
	// back: released before a handler began, snoozed, or unknown. It is 0 if the backend
	// does not count.
	Delivery int

	// Failures counts the deliveries that ended with an error of the handler. It
	// is 0 if the backend does not keep it.
	Failures int

	// PublishedAt is when the event was stored, by the clock of the backend. It
	// is the zero Time if the backend does not say.
	PublishedAt time.Time

	// CorrelationID ties together all events that followed from one; see the
	// function of that name. [Publish] passes it on. It is "" if there is none.
	CorrelationID string

	// CausationID is the ID of the event in whose handler this one was published,
	// or "" if it was not in one.
	CausationID string

	// Headers are what [Header] has attached, and other metadata. They are a copy.
	Headers map[string]string
}

// MetaFromContext returns the Meta of the event that is being handled in ctx. Outside
// of a handler and its middleware it returns the zero Meta.
func MetaFromContext(ctx context.Context) Meta {
	meta := handlingFrom(ctx).copyMeta()
	meta.CorrelationID = CorrelationIDFromContext(ctx)
	return meta
}

// MetasFromContext returns the Metas of the events that are being handled in ctx, by a
// handler of [HandleBatch], in the order of the events. There [MetaFromContext] returns
// only what they have in common: Event, Topic and Handler. In a handler of single
// events MetasFromContext returns its one Meta, and outside of handlers nil.
func MetasFromContext(ctx context.Context) []Meta {
	h := handlingFrom(ctx)
	switch {
	case h == nil:
		return nil
	case h.batch == nil:
		return []Meta{MetaFromContext(ctx)}
	}
	metas := make([]Meta, len(h.batch))
	for i, one := range h.batch {
		metas[i] = one.copyMeta()
	}
	return metas
}

// LoggerFromContext returns the logger of the router that handles the event of ctx, for what
// handlers and middleware have to report: see [Config]. Outside of a handler and its
// middleware it returns [slog.Default].
func LoggerFromContext(ctx context.Context) *slog.Logger {
	if h := handlingFrom(ctx); h != nil && h.logger != nil {
		return h.logger
	}
	return slog.Default()
}

type metaKey struct{}

// handling is an event being handled by one handler. Copying the headers is left
// to those who ask for them.
type handling struct {
	meta    Meta
	headers message.Metadata
	logger  *slog.Logger
	task    *task // nil if it is a control event
	seat    seat
	batch   []*handling // if it is of several events

	turnedAway bool // the router stopped before there was a place for it
	exited     bool // the handler has ended its goroutine
}

func handlingFrom(ctx context.Context) *handling {
	h, _ := ctx.Value(metaKey{}).(*handling)
	return h
}

func (h *handling) copyMeta() Meta {
	if h == nil {
		return Meta{}
	}
	meta := h.meta
	meta.CorrelationID, meta.CausationID = known(h.headers[correlationHeader]), known(h.headers[causationHeader])
	meta.Headers = maps.Clone(h.headers)
	return meta
}

// describe fills in what is known about msg.
func (h *handling) describe(topic string, msg *message.Message) {
	h.meta.ID, h.meta.Topic, h.headers = msg.UUID, topic, msg.Metadata
	if d := backend.DeliveryFromContext(msg.Context()); d != nil {
		h.meta.Delivery, h.meta.Failures, h.meta.PublishedAt = d.Number, d.Failures, d.PublishedAt
	}
}
