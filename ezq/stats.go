package ezq

import "time"

// TopicStats is what a router has done with the events of one topic since it was
// started. An event counts once for each delivery; control events do not count.
type TopicStats struct {
	Claimed      int64 // by this router; the sum of the numbers below
	Succeeded    int64 // done; also those that a middleware has published as dead letters
	Failed       int64 // to be delivered again
	DeadLettered int64 // to be moved by the backend, which counts what it has moved
	Released     int64 // to be delivered again, and has not failed
	Unknown      int64 // released, since they have no handler: see Config.UnknownFor
	Ignored      int64 // acked, as [Router.Ignore] says
	Dropped      int64 // acked, since they have expired: see TopicConfig.DropExpired
	Cancelled    int64 // gone, since they were cancelled while they were handled, and their handlers did not succeed: see [ErrCancelled]
	InFlight     int64 // being handled, or parked; also those whose lease is lost meanwhile

	// LastFailure is when an event failed last. It is the zero Time if none has.
	LastFailure time.Time

	// Paused says that this router fetches nothing until [Router.Resume]. Of a pause of the topic, see
	// [backend.Pauser], the backend has statistics of its own, such as pgmq.SubscriptionStats.
	Paused bool
}
