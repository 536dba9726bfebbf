package pgmq

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/insert"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// Config adjusts a [Client]. The zero value is ready for production.
type Config struct {
	Publisher  PublisherConfig
	Subscriber SubscriberConfig

	// Logger receives the records that no call returns. Defaults to
	// [slog.Default].
	Logger *slog.Logger
}

// PublisherConfig adjusts how messages are published. The zero value is ready
// for production.
type PublisherConfig struct {
	// MaxPayloadBytes is the largest payload in bytes. A larger one is refused with
	// [ErrTooLarge]. Defaults to 1 MiB. As the JSON that is stored it can have six times
	// as many, with which it must fit the MaxMessageBytes of the same [Config].
	MaxPayloadBytes int

	// NoCreate refuses to publish to a topic that does not exist, with
	// [ErrQueueNotFound], instead of creating its queue. A topic that has groups
	// needs no queue of its own; one to which others have bound a queue does.
	NoCreate bool

	// NoNotify publishes without NOTIFY. Consumers in other processes then notice
	// new messages by looking, at their PollInterval at the latest. It is needed where
	// a transaction that is published in is prepared for a two-phase commit: PREPARE
	// TRANSACTION fails after a NOTIFY, which not every publish sends.
	NoNotify bool

	// IDWindow is how long the ID of a message that is stored once is remembered: see
	// [backend.PublishCondition]. Defaults to 24 hours; the least is 1 second.
	IDWindow time.Duration
}

// SubscriberConfig adjusts how messages are received. The zero value is ready
// for production.
type SubscriberConfig struct {
	// Group names the consumers that share the messages of a topic. Each group
	// gets a copy of every message that is published after the group's first
	// Subscribe or SubscribeInitialize; consumers of one group compete. It is a
	// queue of its own, bound to the topic as pgmq.bind_topic does, which needs
	// PGMQ 1.11. Defaults to no group: the consumers of the topic's own queue.
	//
	// The consumers of a topic should all have groups, or none. Mixing them loses nothing
	// silently:
	//
	//   - A topic's own queue, once it exists, gets every message of the topic. A group
	//     that comes later gets what is published from then on, and its first Subscribe
	//     logs how many messages wait in the own queue, which do not come to the group.
	//   - A topic whose groups were there first has no queue of its own, and a consumer
	//     without a Group is refused with [ErrGroupRequired]. To have both, declare
	//     that: SubscribeInitialize of a subscriber without a Group creates the queue,
	//     which gets what is published from then on.
	//
	// Dead letters are not published but moved, to the own queue of their topic, and come to
	// no group. A program that reads them has no Group.
	//
	// With a Group, Subscribe also takes a pattern in the place of a topic, such as "orders.*": see
	// [backend.CheckPattern] and [backend.MatchesPattern]. The group then gets the messages of every topic that the
	// pattern matches, and [backend.Delivery].PublishedTo says which one it was. Such a topic has a group.
	//
	// A binding that others make (pgmq.bind_topic) copies messages to another queue. It
	// is no group, and takes nothing away from the consumers of the topic.
	Group string

	// Lease is how long a message stays with a consumer that is not heard of any
	// more. While the consumer lives, leases are extended at a third of that.
	// Defaults to 30 seconds; the least is 1 second.
	Lease time.Duration

	// MaxExtension is how long a handler may keep a message. After that its
	// context ends with [backend.ErrLeaseLost] and the lease is not extended any
	// more. Defaults to 1 hour.
	MaxExtension time.Duration

	// MaxInFlight is how many messages one subscription hands over before one of
	// them must be settled. Defaults to what the consumer says that it handles at a
	// time, as ezq's Router does with its Concurrency, or else to 100. Where both are
	// set, the smaller one counts; if that is this one, it is logged at Info. With 1 and
	// a single subscription, messages arrive in order.
	MaxInFlight int

	// MaxInFlightBytes bounds the memory of one subscription: it claims nothing while the
	// messages that it has claimed and not settled have that many bytes or more. A message
	// counts with its JSON, with what a map of its headers takes, which for names of two
	// letters is ten times what they say, and with 6 KiB for all else that it takes while
	// it is handled. One message always comes, however large. What a handler makes of it, and
	// the copies of the headers that several handlers of one event get, are not counted.
	//
	// A claim asks for as many as would fit if all were as large as the largest of the
	// claim before (1 MiB at first). It keeps no more than that many bytes, and releases the
	// rest, uncounted. So a subscription has up to twice as many where sizes jump. Defaults
	// to 128 MiB.
	MaxInFlightBytes int64

	// MaxMessageBytes is how large a message may be, in bytes of JSON as PostgreSQL
	// writes it, headers included. One that is larger, or that PostgreSQL cannot
	// read at all, does not come to the consumer, where it could take all memory:
	// it is moved to the archive of its queue, with the reason in its headers, logged,
	// and counted: see [SubscriptionStats]. So is one whose headers alone have more than
	// 128 KiB. Where that is not permitted it is hidden for an hour. Defaults to 64 MiB; the
	// least is 256 KiB. In a [Config] it must be at least six times its MaxPayloadBytes, and
	// 132 KiB: so large can a message be that the same client publishes.
	MaxMessageBytes int

	// SyncAck hands over the next message only when the ack of one before it is
	// stored: an acked message counts against MaxInFlight until then. With a
	// MaxInFlight of 1, a crash repeats one message at most. Otherwise acks are
	// stored in batches, 3 milliseconds later, or 50 where messages are locked (see
	// LeaseOnly), and a crash repeats those of that time. Defaults to false.
	SyncAck bool

	// LeaseOnly leases every message. Otherwise a subscription whose messages are mostly
	// acked within 25 milliseconds locks them: it locks their rows in a transaction of
	// at most 50 milliseconds, deletes there what is acked meanwhile, and leases the
	// rest with its end. That doubles what it can do, and writes a sixth of the WAL. The
	// price is that a connection which is lost releases at once the messages that it
	// had locked, and handlers may still have: they are delivered twice, where leases would
	// have outlived it. Then, too, messages acked in the last 50 milliseconds are delivered
	// again if any consumer, this subscription included, gets them before their acks can be
	// stored.
	//
	// Nothing is locked with a MaxInFlight of 1, with SyncAck, by a subscription that has
	// handlers with [Client.TxMiddleware], in the ten seconds after a lock was lost, and while
	// others use all but two of the MaxConns; nor what was delivered before.
	LeaseOnly bool

	// NackDelay is how long a message stays invisible after the first nack that
	// does not say how long; it doubles with each further failure of that
	// message, up to 1 minute. Defaults to 100 milliseconds.
	NackDelay time.Duration

	// DrainTimeout is how long Close, and the end of a subscription's context,
	// wait for messages that have been handed over. Defaults to 10 seconds. It
	// does not apply to consumers that say how long they wait, like ezq's Router.
	DrainTimeout time.Duration

	// PollInterval is the longest time between two looks at an empty queue. The
	// shortest is 10 milliseconds, or PollInterval if that is less. Notifications
	// announce ezq's own messages at once; the looks find those of other programs,
	// and those whose notifications do not arrive. Of the transactions of a process that publish to a queue
	// within 50 milliseconds, one notifies: if another commits later, or that one rolls back, a look finds
	// what was published. Defaults to 1 second.
	PollInterval time.Duration

	// NoListen does without the connection that listens for notifications. Behind
	// a pooler, which may not pass them on, a subscriber finds that out by itself,
	// and says so.
	NoListen bool

	// MaxConns is how many connections the subscriptions share. They are not
	// taken from the pool of the application, which therefore cannot keep leases
	// from being extended. Defaults to 4; the least is 2, of which one is kept
	// for settling and extending.
	MaxConns int

	// Archive keeps messages that are acked: they move to the queue's archive,
	// PGMQ's table pgmq.a_<queue>, from which [Client.Replay] can publish them again.
	// Nothing leaves the archive by itself, unless ArchiveFor says so: see
	// [Client.PurgeArchive]. An ack costs about twice as much. Defaults to false: acked
	// messages are deleted.
	Archive bool

	// ArchiveFor is how long the archive keeps messages that are acked, at least a minute. After
	// that, a consumer that has nothing to do deletes them within some minutes, a thousand at a
	// time; a busy one does so after ten. Messages that were quarantined stay. The role needs SELECT,
	// UPDATE and DELETE on the archive. It needs Archive. Defaults to 0: for ever.
	ArchiveFor time.Duration

	// DeadLettersFor is how long a dead letter is kept that the consumers of this topic, or of this Group, have dead-lettered, at
	// least a minute. After that, a consumer that has nothing to do deletes it within some minutes, as those of the archive with
	// ArchiveFor. It is about the dead-letter topic that is named after the topic with _dead behind it, and not about one that only a
	// Poison names. A dead letter that is leased or locked stays for now, and those of other topics and groups stay. The role
	// needs SELECT, UPDATE and DELETE on the dead-letter queue. Defaults to 0: for ever.
	DeadLettersFor time.Duration

	// StopWhenDropped ends a subscription whose queue has been dropped: it waits for
	// what it has handed over, and closes its channel. ezq's Router then stops with an
	// ezq.SubscriptionError. Defaults to false: the subscription logs it, and goes on
	// when the queue is there again. That of a Group it declares anew, as Subscribe does,
	// also if it was unbound.
	StopWhenDropped bool

	// NoCreate refuses to subscribe to a topic that does not exist, with
	// [ErrQueueNotFound], instead of creating its queue.
	NoCreate bool
}

const (
	pollMin      = 10 * time.Millisecond
	maxNackDelay = time.Minute

	// maxPrefetch is how many messages a busy subscription claims ahead.
	maxPrefetch = 1000

	// openTimeout is how long a subscription may take to begin.
	openTimeout = 30 * time.Second

	// linger is how long an ack may wait for others to be stored with.
	linger = 3 * time.Millisecond

	// maxLockTime is how long messages may be locked. For so long, no other session can
	// change them, and VACUUM cannot remove rows deleted meanwhile.
	maxLockTime = 50 * time.Millisecond
)

// orZero returns what config points to. Nil is the zero value: all defaults.
func orZero[C any](config *C) C {
	if config == nil {
		return *new(C)
	}
	return *config
}

func (c Config) withDefaults() (Config, error) {
	c.Logger = cmp.Or(c.Logger, slog.Default())
	var err error
	if c.Publisher, err = c.Publisher.withDefaults(); err != nil {
		return c, err
	}
	if c.Subscriber, err = c.Subscriber.withDefaults(); err != nil {
		return c, err
	}
	return c, c.checkSizes()
}

const (
	// maxConnections is how many PostgreSQL's max_connections may be (guc_tables.c, MAX_BACKENDS).
	maxConnections = 1<<18 - 1

	// minMessage leaves room for a payload beside the largest headers.
	minMessage = 2 * codec.MaxHeaders

	// A payload of n bytes has up to maxGrowth*n+codec.NumberGrowth as the text of a jsonb: as text
	// it may be all escapes, such as \u0001; JSON grows by spaces, and by digits in the place
	// of exponents; and base64 by a third.
	maxGrowth     = 6
	messageMargin = codec.MaxHeaders + codec.NumberGrowth
)

// checkSizes makes sure that what is published is not quarantined by the same queue's consumers.
func (c Config) checkSizes() error {
	payload, limit := int64(min(c.Publisher.MaxPayloadBytes, insert.MaxStatement)), int64(c.Subscriber.MaxMessageBytes) // larger ones cannot be stored
	needed := maxGrowth*payload + messageMargin
	if needed <= limit {
		return nil
	}
	return &Error{
		Op:     "configure",
		Kind:   ErrInvalidConfig,
		Cause:  fmt.Errorf("a payload of %d bytes (MaxPayloadBytes) can be a message of %d, and MaxMessageBytes is %d", payload, needed, limit),
		Remedy: fmt.Sprintf("set MaxMessageBytes to at least %d bytes, or MaxPayloadBytes to at most %d", needed, (limit-messageMargin)/maxGrowth),
	}
}

func (c PublisherConfig) withDefaults() (PublisherConfig, error) {
	if c.MaxPayloadBytes < 0 {
		return c, invalidConfig("MaxPayloadBytes", c.MaxPayloadBytes, "0 for the default, or more")
	}
	c.MaxPayloadBytes = cmp.Or(c.MaxPayloadBytes, 1<<20)
	if c.IDWindow = cmp.Or(c.IDWindow, 24*time.Hour); c.IDWindow < time.Second {
		return c, invalidConfig("IDWindow", c.IDWindow, "0 for the default, or 1s or more")
	}
	return c, nil
}

func (c SubscriberConfig) withDefaults() (SubscriberConfig, error) {
	if c.Group != "" {
		if err := invalidGroup(c.Group); err != nil {
			return c, err
		}
	}
	for _, d := range []struct {
		name      string
		value     *time.Duration
		byDefault time.Duration
		least     time.Duration
	}{
		{"Lease", &c.Lease, 30 * time.Second, time.Second},
		{"MaxExtension", &c.MaxExtension, time.Hour, time.Second},
		{"NackDelay", &c.NackDelay, 100 * time.Millisecond, time.Millisecond},
		{"DrainTimeout", &c.DrainTimeout, 10 * time.Second, time.Millisecond},
		{"PollInterval", &c.PollInterval, time.Second, time.Millisecond},
	} {
		*d.value = cmp.Or(*d.value, d.byDefault)
		if *d.value < d.least {
			return c, invalidConfig(d.name, *d.value, fmt.Sprintf("0 for the default, or at least %v", d.least))
		}
	}
	if c.ArchiveFor != 0 && (c.ArchiveFor < time.Minute || !c.Archive) {
		return c, invalidConfig("ArchiveFor", c.ArchiveFor, "0 to keep the archive for ever, or at least 1m, with Archive set too")
	}
	if c.DeadLettersFor != 0 && c.DeadLettersFor < time.Minute {
		return c, invalidConfig("DeadLettersFor", c.DeadLettersFor, "0 to keep dead letters for ever, or at least 1m")
	}
	if c.MaxInFlight < 0 {
		return c, invalidConfig("MaxInFlight", c.MaxInFlight, "0 for the default, or at least 1")
	}
	c.MaxInFlightBytes = cmp.Or(c.MaxInFlightBytes, 128<<20)
	if c.MaxInFlightBytes < 1 {
		return c, invalidConfig("MaxInFlightBytes", c.MaxInFlightBytes, "0 for the default, or at least 1")
	}
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, 64<<20)
	if c.MaxMessageBytes < minMessage {
		return c, invalidConfig("MaxMessageBytes", fmt.Sprintf("%d bytes, of which headers alone may have %d", c.MaxMessageBytes, codec.MaxHeaders),
			fmt.Sprintf("0 for the default, 64 MiB, or at least %d bytes", minMessage))
	}
	c.MaxConns = cmp.Or(c.MaxConns, 4)
	if c.MaxConns < 2 || c.MaxConns > maxConnections {
		return c, invalidConfig("MaxConns", c.MaxConns, fmt.Sprintf("0 for the default, or from 2 to %d", maxConnections))
	}
	return c, nil
}

// linger is how long an ack may wait for others to be stored with. With SyncAck
// the next message may wait for it.
func (c SubscriberConfig) linger() time.Duration {
	if c.SyncAck {
		return 0
	}
	return linger
}

// lockFor is how long messages may be locked instead of leased.
func (c SubscriberConfig) lockFor() time.Duration {
	if c.LeaseOnly {
		return 0
	}
	return min(maxLockTime, c.Lease/10)
}

// isFinal reports whether err ends a subscription.
func (c SubscriberConfig) isFinal(err error) bool {
	return c.StopWhenDropped && errors.Is(err, ErrQueueNotFound)
}

// queueDropped is why a subscription gets no more messages. A group's queue that another program
// creates gets none.
func (c SubscriberConfig) queueDropped(queue string) error {
	remedy := fmt.Sprintf("create it with SELECT pgmq.create('%s'), or publish to it", queue)
	switch {
	case c.StopWhenDropped:
		remedy = "StopWhenDropped has ended the subscription: if the topic is still in use, subscribe again"
	case c.Group != "" && c.NoCreate:
		remedy = "let the owner declare it, with SubscribeInitialize of a program that has that Group"
	case c.Group != "":
		remedy = "the subscription creates it again"
	}
	return &Error{Op: "fetch", Kind: ErrQueueNotFound, Cause: fmt.Errorf("the queue %q was dropped", queue), Remedy: remedy}
}

func invalidConfig(field string, value any, allowed string) error {
	return &Error{
		Op:     "configure",
		Kind:   ErrInvalidConfig,
		Cause:  fmt.Errorf("%s is %v", field, value),
		Remedy: "set it to " + allowed,
	}
}

// features is what both halves of the backend promise.
func features() backend.Features {
	return backend.Features{
		Delay: true, Redelay: true, Attempts: true, Progress: true, DeadLetter: true,
		Ordered: true, Lease: true, Drain: true, Schedules: true, Conditions: true,
	}
}

// invalidGroup returns an error if no group can have that name.
func invalidGroup(group string) error {
	if refused, ok := errors.AsType[*backend.RefusedError](queuename.CheckGroup(group)); ok {
		return invalidConfig("Group", fmt.Sprintf("%q: %s", excerpt.Of(group), refused.Reason),
			fmt.Sprintf("at most %d bytes of UTF-8 without NUL, or leave it empty for no group", backend.MaxTopic))
	}
	return nil
}
