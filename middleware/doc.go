// Package middleware has policies for handlers: what happens when they fail, how
// long they may take, how often they may begin.
//
//	router := ezq.NewRouter(client, nil)
//	router.Use(
//		middleware.CorrelationID{}.Middleware,
//		middleware.Retry{Attempts: 5}.Middleware,
//		middleware.Poison{}.Middleware,
//		middleware.Timeout{After: 30 * time.Second}.Middleware,
//	)
//	ezq.Handle(router, charge, ezq.Use(middleware.Retry{Attempts: 20}.Middleware))
//
// A policy is a struct whose zero value is ready for use. Its Middleware method is a
// [message.HandlerMiddleware], so it also works in Watermill's own router, and on
// any Pub/Sub. There, the work that ezq's backends do durably is done in the process.
// These are the policies:
//
//	CorrelationID  one id for all that followed from one cause
//	Retry          when a failure is final, and how long a message waits until then
//	Poison         moves final failures to a dead-letter topic
//	Deduplicate    does not handle again what has been handled
//	Throttle       limits how often handlers begin
//	CircuitBreaker pauses the topic while all messages of a handler fail
//	Timeout        limits how long a handler takes
//
// No policy changes a message or leaves another context on it, none takes a shutdown
// for a failure, and none starts a goroutine.
//
// # Order
//
// The first middleware is the outermost. No order loses a message, and Retry and
// Poison may be in any, also with one of them given to the router and the other to a
// handler. The order decides this:
//
//   - CircuitBreaker inside of Retry and Poison, or it sees no failure that they have
//     taken care of.
//   - Timeout inside of Throttle and CircuitBreaker, or waiting counts against the limit.
//   - Timeout inside of Retry, or where retries are in the process all attempts
//     together have that long.
//   - Deduplicate anywhere. Outside of Throttle, duplicates take no turn.
//
// A panic is an error for Retry and Poison. In Watermill's router its stack is then
// in the [ezq.PanicError] and no longer in the log; ezq's logs it.
//
// # Watermill's own middleware
//
// Any of it runs in an ezq router, but some of it was not made for a queue that
// leases messages and delivers them again. The tests in middleware/watermilltest
// compare both.
//
// These are safe:
//
//   - CorrelationID: sees only messages that are returned, and makes no ids.
//   - Recoverer: innermost, if at all. It puts the stack into the text of the error,
//     and so into dead letters.
//   - CircuitBreaker: while it is open every message fails at once, which counts.
//     Give Retry enough attempts for an outage, or take the one of this package.
//   - RandomFail, RandomPanic, Duplicator: for tests.
//
// These are not:
//
//   - Retry: sleeps in the process, keeps nothing over a restart, and waits longer
//     if it has a hook, which takes intervals from the same back-off.
//   - PoisonQueue: takes an interrupted handler for a failure, changes the message,
//     publishes with the context that may have ended, and is not atomic. Inside of a
//     Retry it poisons the first failure.
//   - Timeout: leaves its dead context on the message for the next attempt.
//   - Deduplicator: remembers a message before it is handled, so that the redelivery
//     of one that failed is dropped and lost. Its default key is a 32-bit checksum of
//     the payload.
//   - Throttle: waits without looking at the context, so a router cannot stop.
//   - InstantAck: an ack ends the context, and a failure loses the message.
//   - IgnoreErrors: compares texts, so it misses wrapped errors and hits unrelated ones.
//     Return nil from the handler instead.
//   - DelayOnError: ezq's router says itself when a message comes back. In Watermill's,
//     on ezq's backends, its delay is honoured but never grows.
package middleware
