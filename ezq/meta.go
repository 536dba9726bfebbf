package ezq

import "time"

// Meta describes an event that is being handled.
type Meta struct {
	ID    string // the same for every delivery of the event
	Event string // the name that the event's handler is for

	// Topic is what the router subscribes to: a topic, or a pattern of topics.
	Topic string

	// PublishedTo is the topic that the event was published to. It is another one than Topic only where that is a
	// pattern; there it is Topic, too, if the event does not say, since another program has stored it.
	PublishedTo string

	// Handler is the [Name] of the handler, or else that of its event.
	Handler string

	// Delivery counts the deliveries of the event, from 1, without those that do not
	// count: released before a handler began, snoozed, or unknown. It is 0 if the backend
	// does not count.
	Delivery int

	// Failures counts the deliveries that ended with an error of the handler. It
	// is 0 if the backend does not keep it.
	Failures int

	// PublishedAt is when the event was stored, by the clock of the backend. It
	// is the zero Time if the backend does not say.
	PublishedAt time.Time

	// ExpiresAt is when the event expires, as [Expires] says, or the zero Time.
	ExpiresAt time.Time

	// CorrelationID ties together all events that followed from one; see
	// [CorrelationIDFromContext]. [Publish] passes it on. It is "" if there is none.
	CorrelationID string

	// CausationID is the ID of the event in whose handler this one was published,
	// or "" if it was not in one.
	CausationID string

	// Headers are what [Header] has attached, and other metadata. They are a copy.
	Headers map[string]string
}
