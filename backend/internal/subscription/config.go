package subscription

import (
	"log/slog"
	"time"
)

// Config describes one subscription. Every field must be set, except where its
// zero value is said to mean something. All durations are positive.
type Config struct {
	Topic string // for the log

	Lease        time.Duration // how long a claim or an extension lasts
	MaxExtension time.Duration // how long a handed-over message may stay leased

	// MaxInFlight is how many messages may be handed over and not settled. Where the
	// consumer says how many it handles at a time, it is the smaller of both. 0: as many
	// as the consumer says, or defaultInFlight.
	MaxInFlight int
	MaxPrefetch int // messages fetched beyond those; 0: fetch no more than there are slots

	// MaxInFlightBytes ends fetching while messages with this many bytes are fetched and
	// not settled. 0: no bound. One fetch may exceed it.
	MaxInFlightBytes int64

	// LockFor is how long messages that are usually acked soon may be locked instead of
	// leased, where the store is a [Locker]. 0: all are leased.
	LockFor time.Duration

	NackDelay    time.Duration // before redelivery, unless the nack says; doubles with each failure; 0: at once
	MaxNackDelay time.Duration // what it doubles up to; 0: it does not double
	DrainTimeout time.Duration // how long a stopping subscription waits for its messages

	PollMin time.Duration // between fetches that find nothing, at first,
	PollMax time.Duration // and at last; 0: no polling, Store.Changed is enough

	SyncAck          bool          // a slot is taken until the outcome of its message is stored
	Linger           time.Duration // how long an outcome may wait for others to be stored with; 0: not at all
	OperationTimeout time.Duration // of one call to the store

	// Final reports whether err, of a fetch, ends the subscription. Nil: none does.
	Final func(err error) bool

	Counters *Counters // nil: nothing is counted
	Logger   *slog.Logger
}

const (
	defaultInFlight = 100

	// grace is how long messages may still be settled after their contexts ended.
	grace = 5 * time.Second

	// flushTimeout is how long the end of a subscription may take to store the
	// outcomes that it knows.
	flushTimeout = 5 * time.Second

	// restMin is how long a subscription whose messages are not received leaves them
	// to others: that, and two polls.
	restMin = time.Second

	// unknownSize is how large a message is taken to be before one has come.
	unknownSize = 1 << 20

	// patienceMin is how long a call that settles may take at least, however short a lease is.
	patienceMin = time.Second

	// maxExtensions is how many calls may search for a lease that cannot be extended, at a time.
	maxExtensions = 1000

	// cancelTime is how long the store may keep messages locked after a call was given up.
	cancelTime = 50 * time.Millisecond

	// settleBatch is how many outcomes one call to the store carries.
	settleBatch = 500

	// retryMin and retryMax bound the wait after a call to the store has failed.
	// The latter is how long after an outage messages may wait.
	retryMin = 50 * time.Millisecond
	retryMax = time.Second

	// maxRefused is how many acks the store may refuse before nothing more is fetched. A
	// crash repeats that many messages.
	maxRefused = 100

	// slowPeriod is for how long, after an outcome that took too long, claims carry none.
	slowPeriod = time.Minute

	// refusedMin and refusedMax bound the wait before such an ack, or what the store may
	// accept later, is tried again.
	refusedMin = 100 * time.Millisecond
	refusedMax = 5 * time.Second
)
