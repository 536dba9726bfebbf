package backend

import "context"

// Canceller deletes messages that wait, and those that are being handled.
type Canceller interface {
	// Cancel deletes the messages of topic that the selection chooses and that wait: in the
	// topic's own queue, and in the queues of its groups. It chooses by ID, by UniqueKey, or by
	// both; a Selection that sets anything else is a *[RefusedError].
	//
	// A message waits if it is due, or is delayed and has never been delivered, deliveries
	// that do not count aside. It is deleted, also if a handler has had it before: if that
	// handler is still at it, because its lease has run out, its ack is void. All others
	// stay, and are counted as Busy: one that is leased; one that is to be delivered again after
	// a delay, which cannot be told from that; and one that a transaction has locked, as that of
	// a consumer, or of a publisher that replaces it. Cancel waits for no handler. Messages that
	// are not committed yet are neither deleted nor counted, and dead letters and archives stay
	// as they are.
	//
	// The key of a message that was cancelled is free. Its ID stays known: within the window, a
	// message with Once and this ID is not stored.
	//
	// If Cancel does not look at everything, it returns what it has done and a
	// *[TruncatedError]. After any error it can be called again.
	Cancel(ctx context.Context, topic string, s Selection) (Cancelled, error)

	// CancelRunning does what Cancel does, and also deletes what is leased, or is to be delivered
	// again after a delay: these are counted as Stopped. The context of a handler that has the
	// message, in any process, ends with the cause [ErrCancelled]: within a second where processes
	// hear of changes, and otherwise when its lease is extended next.
	//
	// CancelRunning does not wait for the handler. The message is gone when it returns, whatever
	// the handler does then: its ack, nack or dead letter changes nothing, and a transaction that
	// commits with the ack is rolled back. If the ack, or that transaction, was first, there is
	// nothing to cancel, and nothing is counted. So the one or the other takes effect.
	//
	// A message that a transaction has locked stays, and is counted as Busy, if it is still
	// locked after 2 seconds. A consumer locks what it has fetched for a fraction of a second.
	CancelRunning(ctx context.Context, topic string, s Selection) (Cancelled, error)
}

// Cancelled is what [Canceller] has done. Each group has a message of its own.
type Cancelled struct {
	Removed int // messages that waited, and were deleted
	Stopped int // messages that were deleted although a consumer had them, or after a failure were to be delivered again
	Busy    int // messages that are chosen, and stay
}
