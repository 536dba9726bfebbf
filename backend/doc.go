// Package backend is the contract between ezq and the systems that carry its
// events. Applications import a concrete backend, such as backend/pgmq or
// backend/memory; only authors of backends and of middleware need this package.
//
// Any Watermill Publisher and Subscriber already work with ezq. A [Backend] is
// more than that: it says which promises it keeps, so that ezq can use them
// and can refuse a request which the backend would otherwise ignore.
//
// # What a backend promises
//
// What Publish and Subscribe do beyond Watermill's contract is in [Features]. What a backend can do
// beside them is an interface, and to have its methods is the promise: [Finder], [Canceller] and
// [Rescheduler] for messages that are stored, [DeadLetterStore] for dead letters, [Inspector] for
// queues as a whole, [Pauser] for topics, and [GroupPauser] for single groups. A backend that promises
// Schedules is also a [Scheduler]. There is no feature for the others, because a decorator passes Features
// on and not the methods.
//
// # What travels beside a message
//
// A decorator can hide an optional method, but neither metadata nor a context.
// Whatever varies from message to message therefore travels in one of those. A delay is
// Watermill's own delay metadata: [SetDelay], [SetDeliverAt], [DelayOf]. All else is in a
// context, because metadata is copied to whatever a program publishes next.
//
// # Values in contexts
//
// Router, middleware and backend meet only in the message and its context. This table has
// all values that they leave there, by their keys, beside the names of topic and handler
// that Watermill's router leaves. A line below a key is a function that writes or reads it.
//
//	key                            set by                                 read by
//
//	backend.consumerKey            the router, in the context of a        the backend, when it subscribes: how many
//	  backend.WithConsumer         Subscribe, from which the contexts     messages, and when to stop; the router, to see
//	  backend.ConsumerFromContext  of its messages descend                whether a message is from its subscription
//
//	backend.deliveryKey            the backend, before it hands over a    the router and middleware, before and after
//	  backend.WithDelivery         message; the router, for each of       the handler. Nack, Release, DeadLetter and
//	  backend.DeliveryFromContext  several handlers; ezqtest              Park write to it; the backend reads that
//	                                                                      after the nack
//
//	backend.exclusiveKey           the router, before the middleware of   pgmq.TxMiddleware, before the handler
//	  backend.WithExclusive        one of several handlers, or a batch
//	  backend.ExclusiveFromContext
//
//	backend.tickKey                schedule.Timetable, before a publish   the backend, while it publishes. It answers
//	  backend.WithScheduleTick                                            with ScheduleTick.Report, which the timetable
//	  backend.ScheduleTickFromContext                                     and otel read after the publish
//
//	backend.conditionKey           ezq.Publish, for ID, Unique, Replace   the backend, while it publishes. It answers
//	  backend.WithPublishCondition and Debounce                           with PublishCondition.Report, which ezq.Publish,
//	  backend.PublishConditionFromContext                                 otel and ezqtest read after the publish
//
//	ezq.invocationKey              the router, before the outermost       middleware and handlers, until the handler
//	  ezq.MetaFromContext          middleware; of a batch, before its     returns; ezq.Publish, for the cause of what
//	  ezq.MetasFromContext         handler                                a handler publishes; ezq.YieldSlot
//	  ezq.LoggerFromContext
//	  ezq.StoppingFromContext
//	  schedule.TickFromContext
//
//	ezq.correlationKey             programs, before they publish;         ezq.Publish; middleware and handlers
//	  ezq.WithCorrelationID        middleware.CorrelationID, before the
//	  ezq.CorrelationIDFromContext handler
//
//	ezq.roundTripKey               an attached router, before the         that router, after that middleware
//	                               middleware of the Watermill router
//
//	middleware.retryStateKey       Retry, before each attempt             Poison, after the attempt, to see whether it was the
//	                                                                      last; a Retry further in, which overrules this one
//
//	middleware.outcomeKey          Deduplicate, before the handler        Poison notes a dead letter there, which
//	                                                                      Deduplicate reads after the handler
//
//	pgmq.txKey                     pgmq.TxMiddleware, before the handler  the handler; publishers and key stores of
//	  pgmq.TxFromContext                                                  pgmq, which want a second connection then
//
//	ezqotel.deadLetterWatchKey     Telemetry.Middleware, before Poison    Telemetry.Publisher notes a dead letter there,
//	                                                                      which Middleware reads in the end
//
//	ezqtest.deliveryKey            ezqtest, before it hands over          ezqtest, in its middleware: faults, and what
//	                                                                      handlers have returned
//
// # How an outcome travels
//
// A handler decides by what it returns, and middleware by what it returns or by a nack.
// The first ack or nack of a message counts. From the inside out:
//
//   - A handler that was interrupted returns no error. The router's innermost link has
//     nacked the message, in place. What a batch did not begin is released in the same way.
//   - Retry returns an error that it marks as final, or returns as it is.
//   - Poison takes a final error, calls [DeadLetter], which is a nack, and returns no
//     error. So middleware that looks for success asks [Nacked] too.
//   - The router reads the error, the ack or nack, and [Delivery.Disposition]. It adds up
//     several handlers, then acks, nacks or dead-letters the message.
//   - The backend reads the ack or nack, and the [Disposition] that came with it.
package backend
