package conformance

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Open makes the system that one case works with: a broker, or a part of one, in
// which no other case is seen. Cases use topics of their own, so one broker may
// serve all of them. ctx ends with the case.
type Open func(ctx context.Context) (*System, error)

// System is a broker as one case sees it.
type System struct {
	// Connect returns what one process of an application has: publisher and
	// subscriber of its own, which can be closed without harm to those of other
	// calls, and which see the messages of those. It is called once or several
	// times in a case. It is required.
	Connect func(PeerConfig) (*Peer, error)

	// Lease is how long a message stays with a consumer that is not heard of any
	// more. It is required if Lease is promised, and should be as short as the
	// backend allows: the cases about leases take several of them.
	Lease time.Duration

	// Close, if set, releases what is left when the case is over and all peers are
	// closed.
	Close func() error
}

// PeerConfig is what a case asks of a peer, by the names that the configurations of ezq's own backends
// have. A zero field is the default of the backend.
type PeerConfig struct {
	// Group is the consumer group of the subscriber. Only cases that need Groups
	// set it.
	Group string

	// MaxInFlight is how many messages one subscription hands over before one of them
	// must be settled. Only cases that need Ordered set it, to 1.
	MaxInFlight int

	// MaxExtension is how long a handler may keep a message before its lease is lost. Only
	// cases that need Lease set it, to System.Lease or more.
	MaxExtension time.Duration

	// DrainTimeout is how long a closing subscriber waits for messages that have been
	// handed over. It is always set, from a second to a few, and may be ignored by
	// a subscriber that does not wait.
	DrainTimeout time.Duration
}

// Peer is a publisher and a subscriber. They may be one value, which is then closed
// once.
type Peer struct {
	Publisher  message.Publisher
	Subscriber message.Subscriber

	// Begin starts a transaction in which messages can be published. It is required
	// if Transactions is promised.
	Begin func(context.Context) (*Tx, error)
}

// Tx is a transaction.
type Tx struct {
	Publisher message.Publisher // its messages exist if and only if Commit has returned nil
	Commit    func() error
	Rollback  func() error
}

// Promises is what a backend is held to. What it says itself must be the same: with its Features
// method, if it has one, and with the methods that it has for Selection, Pauses, DeadLetterStore, Inspection and GroupPauses.
type Promises struct {
	// Features is what the backend's own Features method says, if it has one.
	backend.Features

	// Durable: messages wait for a subscriber, and outlive the subscriber, or the
	// process, that had them last.
	Durable bool

	// Groups: each group of consumers gets a copy of every message.
	Groups bool

	// Patterns: a group that subscribes to a pattern gets a copy of each message that is published to a topic which the
	// pattern matches, as [backend.MatchesPattern] says. It is for backends that promise Groups.
	Patterns bool

	// Transactions: messages can be published in a transaction.
	Transactions bool

	// Selection: the publisher is a [backend.Finder], a [backend.Canceller] and a
	// [backend.Rescheduler].
	Selection bool

	// Pauses: the publisher is a [backend.Pauser]; its pauses hold for all processes.
	Pauses bool

	// DeadLetterStore: the publisher is a [backend.DeadLetterStore]; it also makes dead letters, as with the feature DeadLetter.
	DeadLetterStore bool

	// Inspection: the publisher is a [backend.Inspector].
	Inspection bool

	// GroupPauses: the publisher is a [backend.GroupPauser]. It is for backends that promise Pauses and Groups.
	GroupPauses bool
}

// cover reports whether all that a case needs is promised.
func (p Promises) cover(needed need) bool {
	for _, row := range promisesOf(p) {
		if needed&row.need != 0 && !row.made {
			return false
		}
	}
	return true
}
