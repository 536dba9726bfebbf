// Package backend is the contract between ezq and the systems that carry its
// events. Applications import a concrete backend, such as backend/pgmq or
// backend/memory; only backend authors need this package.
//
// Any Watermill Publisher and Subscriber already work with ezq. A [Backend] is
// more than that: it says which promises it keeps, so that ezq can use them
// and can refuse a request which the backend would otherwise ignore.
//
// # What travels beside a message
//
// A decorator can hide an optional method, but neither metadata nor a context.
// Whatever varies from message to message therefore travels in one of those:
//
//   - A delay is Watermill's own delay metadata: [SetDelay], [SetDeliverAt], [DelayOf].
//   - What the backend knows about a delivery is in the message's context:
//     [DeliveryFromContext]. It is not metadata, because metadata is copied to whatever
//     a program publishes next.
//   - That a message is for one tick of a schedule, and is to be stored once, is in
//     its context too: [WithScheduleTick].
//   - How a message shall come back is told with its nack: [Nack], [Release].
//   - What the consumer is like is in the context of its subscription:
//     [ConsumerFromContext].
package backend
