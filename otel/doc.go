// Package ezqotel tells OpenTelemetry what becomes of events: traces that lead from
// the publish to the handler, across processes, and metrics.
//
//	telemetry, err := ezqotel.New(ezqotel.Config{
//		TracerProvider: otel.GetTracerProvider(),
//		MeterProvider:  otel.GetMeterProvider(),
//	})
//	…
//	publisher := telemetry.Publisher(queue)
//	router.Use(telemetry.Middleware) // first, so that it sees what the others decide
//
//	ezq.Publish(ctx, publisher, OrderPaid{ID: 7})
//
// Both halves are Watermill's: the first wraps any Publisher, the second also works
// in Watermill's own router. Between them the trace travels in the metadata of the
// message, as the propagator writes it: traceparent, tracestate, baggage.
//
// # Traces
//
// A publish is a span "publish TOPIC" of the kind producer, however many messages it
// has. Each handling is a span "process TOPIC" of the kind consumer, and a child of
// the publish; with [Config].NewTraces it begins a trace of its own, which is linked
// to it. What a handler publishes is below its span. [Batch] adds a span for a batch,
// linked to all its messages.
//
// Names and attributes follow the semantic conventions for messaging, in the version
// of [SchemaURL]. They are still in development there, so a later version of this
// package may follow a later version of them. What they have no name for:
//
//	ezq.event       the name of the event
//	ezq.handler     the handler
//	ezq.delivery    which delivery of the message it is, from 1
//	ezq.failures    how many of those before it have failed
//	ezq.outcome     what became of the message; see below
//	ezq.tick        that a publish for a tick of a schedule stored nothing: taken, early
//
// A span of a message that will be handled again has an event ezq.retry, one of a
// message that was given up ezq.dead_letter. A failure sets the status of its span;
// an interrupted handler has not failed.
//
// # Metrics
//
//	messaging.client.sent.messages        messages published
//	messaging.client.operation.duration   how long a publish took
//	messaging.client.consumed.messages    messages handled, by ezq.outcome
//	messaging.process.duration            how long handling took
//	ezq.process.active                    messages being handled now
//	ezq.message.latency                   from the publish until a message was handled
//
// [Telemetry.ObserveRouter] adds what a router knows, and package pgmqotel what
// PostgreSQL knows: depth and age of the queue, lost leases. The outcomes are
//
//	succeeded       done
//	failed          will be delivered again
//	dead_lettered   given up
//	given_back      not begun or interrupted; will be delivered again
//	lease_lost      another consumer may have it
package ezqotel
