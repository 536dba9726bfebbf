package backend

import "context"

// Canceller deletes messages that wait.
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
}

// Cancelled is what [Canceller] has done.
type Cancelled struct {
	Removed int // messages that were deleted; each group has one of its own
	Busy    int // messages that are chosen, and stay
}
