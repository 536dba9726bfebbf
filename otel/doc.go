// Package ezqotel tells OpenTelemetry what becomes of events: traces that lead from
// the publish to the handler, across processes, and metrics.
//
//	telemetry, err := ezqotel.New(&ezqotel.Config{
//		TracerProvider: otel.GetTracerProvider(),
//		MeterProvider:  otel.GetMeterProvider(),
//	})
//	…
//	publisher := telemetry.Publisher(client)
//	router.Use(telemetry.Middleware) // first, so that it sees what the others decide
//	_, err = telemetry.ObserveRouter(router)
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
// has. Each handling is a span "process TOPIC" of the kind consumer, which begins a trace
// and is linked to the publish; with [Config].ContinueTraces it is a child of the publish.
// Publishes of a handler are below its span. [Batch] adds a span for a batch, linked to
// all its messages.
//
// Names and attributes follow the semantic conventions for messaging, in the version
// of [SchemaURL]. They are still in development there, so a later version of this
// package may follow a later version of them. These are all, on spans, their links and
// their events:
//
//	messaging.system                    [Config.System]
//	messaging.operation.name            publish, process
//	messaging.operation.type            send, process
//	messaging.destination.name          the topic
//	messaging.message.id                the ID of the message
//	messaging.message.body.size         the size of its payload
//	messaging.message.conversation_id   its correlation ID, if it has one
//	messaging.batch.message_count       how many messages it is about
//	error.type                          the type of an error
//	exception.type                      likewise
//	exception.message                   the text of an error
//	ezq.event                           the name of the event
//	ezq.handler                         the handler
//	ezq.delivery                        which delivery of the message it is, from 1
//	ezq.failures                        how many of those before it have failed
//	ezq.outcome                         what became of the message; see below
//	ezq.existed                         how many of the published messages were not stored: others were there
//	ezq.tick                            that a publish for a tick of a schedule stored nothing: taken, early, paused
//	ezq.batch.failed                    how many messages of a batch have failed
//	ezq.retry.delay                     in how many seconds it is tried again
//	ezq.dead_letter.topic               where it is if it was dead-lettered
//	ezq.dead_letter.reason              and the text of the error why
//
// No span and no metric shows a payload, a password, or metadata but those above. The
// text of an error that a handler returns is on its span, by design; it is in no metric.
//
// A span of a message that will be handled again has an event ezq.retry, one of a
// message that was dead-lettered ezq.dead_letter. A failure sets the status of its span;
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
//	dead_lettered   dead-lettered
//	released        not begun or interrupted; will be delivered again
//	lease_lost      another consumer may have it
//	cancelled       removed while it was handled; see ezq.ErrCancelled
package ezqotel
