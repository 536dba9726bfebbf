// Package memory is an ezq backend that keeps events in the process: for tests,
// for examples, and wherever losing events on exit is fine.
//
// It is a queue, not a channel. A message goes to one of the consumers of its
// topic, or of each group of it, and stays in the queue, leased, until it is acked. It comes back if it
// is nacked, after the delay that the nack asks for, and if its handler takes
// too long. Deliveries and failures are counted. This is the behaviour of
// backend/pgmq, by the same engine, so a handler that works here works there.
//
// Nothing in it sleeps or polls, and all its waiting is by channels and timers:
// inside a testing/synctest bubble its delays and leases pass in virtual time.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// Config adjusts a [Broker]. The zero value is what [New] uses.
type Config struct {
	// Group names the consumers that share the messages of a topic. Each group gets a copy of every message that is published
	// after the group's first Subscribe or SubscribeInitialize; consumers of one group compete. Defaults to no group: the
	// consumers of the topic's own queue.
	//
	// The consumers of a topic should all have groups, or none. Mixing them loses nothing silently:
	//
	//   - A topic's own queue, once it exists, gets every message of the topic. It exists from the first publish on if the
	//     topic has no groups by then, or else from the first subscription without a Group. A group that comes later gets what is published from then on, and its
	//     first Subscribe logs how many messages wait in the own queue, which do not come to the group.
	//   - A topic whose groups were there first has no queue of its own, and a consumer without a Group is refused with
	//     [backend.ErrGroupRequired]. To have both, declare that: SubscribeInitialize of a Broker without a Group creates the
	//     queue, which gets what is published from then on.
	//
	// Dead letters are not published but moved, to the own queue of their topic, and come to no group. A program that reads
	// them has no Group.
	//
	// With a Group, Subscribe also takes a pattern in the place of a topic, such as "orders.*": see [backend.CheckPattern]
	// and [backend.MatchesPattern]. The group then gets the messages of every topic that the pattern matches, and
	// [backend.Delivery].PublishedTo says which one it was. Such a topic has a group.
	//
	// A group lasts as long as the messages do. Other groups are those of other Brokers: see Connect.
	Group string

	// MaxInFlight is how many messages one subscription hands over before one
	// of them must be settled. Defaults to what the consumer says that it handles at a
	// time, as ezq's Router does with its Concurrency, or else to 100. Where both are
	// set, the smaller one counts; if that is this one, it is logged at Info. With 1 and
	// a single subscription, messages arrive in order.
	MaxInFlight int

	// NackDelay is how long a message stays invisible after a nack that does not
	// say how long. Defaults to 0: it is redelivered at once.
	NackDelay time.Duration

	// Lease is how long a claimed message is kept from other consumers before the
	// lease is extended, which happens as long as its handler runs. Defaults to
	// 30 seconds. There is a reason to change it only where a test waits for one in
	// real time.
	Lease time.Duration

	// MaxExtension is how long a handler may keep a message. After that its
	// context ends with [backend.ErrLeaseLost], and another consumer receives the
	// message within Lease. Defaults to 1 hour.
	MaxExtension time.Duration

	// DrainTimeout is how long Close, and the end of a subscription's context,
	// wait for messages that have been handed over. Defaults to 10 seconds. It
	// does not apply to consumers that say how long they wait, like ezq's Router.
	DrainTimeout time.Duration

	// IDWindow is how long the ID of a message that is stored once is remembered: see
	// [backend.PublishCondition]. Defaults to 24 hours.
	IDWindow time.Duration

	// DeadLettersFor is how long a dead letter is kept that the consumers of this Broker have dead-lettered, in the topic
	// that is named after theirs with _dead behind it. It is then deleted, also after Close; one that is leased or
	// delayed stays until it is not. Those in topics that only a Poison names stay. Defaults to 0: for ever.
	DeadLettersFor time.Duration

	// Logger receives the records that no call returns. Defaults to
	// [slog.Default].
	Logger *slog.Logger
}

func (c Config) validate() error {
	if refused, ok := errors.AsType[*backend.RefusedError](backend.CheckTopic(c.Group)); ok && c.Group != "" {
		return fmt.Errorf("memory: Config.Group is %q: %s: use at most %d bytes of UTF-8 without NUL, or leave it empty for no group",
			excerpt.Of(c.Group), refused.Reason, backend.MaxTopic)
	}
	if c.MaxInFlight < 0 {
		return fmt.Errorf("memory: Config.MaxInFlight is %d: use a positive number, or 0 for the default", c.MaxInFlight)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"NackDelay", c.NackDelay},
		{"Lease", c.Lease},
		{"MaxExtension", c.MaxExtension},
		{"DrainTimeout", c.DrainTimeout},
		{"IDWindow", c.IDWindow},
		{"DeadLettersFor", c.DeadLettersFor},
	} {
		if d.value < 0 {
			return fmt.Errorf("memory: Config.%s is %v: use a positive duration, or 0 for the default", d.name, d.value)
		}
	}
	return nil
}

// Broker is an in-process backend. Create it with [New]. Its methods may be
// called concurrently.
type Broker struct {
	config        Config
	invalid       error // of what New was given
	topics        *topics
	subscriptions *subscription.Subscriptions
	closed        atomic.Bool
	inspector
}

var (
	_ backend.Backend              = (*Broker)(nil)
	_ backend.Finder               = (*Broker)(nil)
	_ backend.Canceller            = (*Broker)(nil)
	_ backend.Rescheduler          = (*Broker)(nil)
	_ backend.GroupPauser          = (*Broker)(nil)
	_ backend.DeadLetterStore      = (*Broker)(nil)
	_ backend.Scheduler            = (*Broker)(nil)
	_ message.SubscribeInitializer = (*Broker)(nil)
)

// New returns an empty broker. A nil config is that of the defaults. If a number or a
// duration in config is negative, or no group can have the name of its Group, the methods that publish and subscribe
// return an error that says which.
func New(config *Config) *Broker {
	return newBroker(config, newTopics())
}

// Connect returns another broker over the same messages, as a second process has
// it: with a configuration, as for [New], of another Group perhaps, with subscriptions, and with an end of its own.
func (b *Broker) Connect(config *Config) *Broker {
	return newBroker(config, b.topics)
}

func newBroker(overrides *Config, topics *topics) *Broker {
	var config Config
	if overrides != nil {
		config = *overrides
	}
	invalid := config.validate()
	config.Lease = cmp.Or(config.Lease, 30*time.Second)
	config.MaxExtension = cmp.Or(config.MaxExtension, time.Hour)
	config.DrainTimeout = cmp.Or(config.DrainTimeout, 10*time.Second)
	config.IDWindow = cmp.Or(config.IDWindow, 24*time.Hour)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	b := &Broker{config: config, invalid: invalid, topics: topics, subscriptions: subscription.NewSubscriptions()}
	b.inspector = inspector{b}
	return b
}

// Features implements [backend.Backend]: a Broker keeps every promise.
func (b *Broker) Features() backend.Features {
	return backend.Features{
		Delay: true, Redelay: true, Attempts: true, Progress: true, DeadLetter: true,
		Ordered: true, Lease: true, Drain: true, Schedules: true, Conditions: true,
	}
}

// Publish stores copies of the messages, all of them or, with an error, none.
// It honours the delays of [backend.SetDelay] and [backend.SetDeliverAt]. A topic
// exists as soon as it is named. Of the message's context only a [backend.ScheduleTick]
// and a [backend.PublishCondition] are used, either of which may have messages left out.
// Topics and messages that no backend of this module takes fail with a
// *[backend.RefusedError]: see [backend.CheckTopic] and [backend.CheckHeaders].
func (b *Broker) Publish(topic string, msgs ...*message.Message) error {
	err := b.checkTopic(topic)
	if err == nil && backend.IsPattern(topic) {
		err = b.explain("publish", topic, backend.CheckPublishTopic(topic))
	}
	if err != nil {
		return err
	}
	conditions, err := backend.PublishConditionsOf(msgs)
	if err != nil {
		return fmt.Errorf("memory: publish to %q: %w", excerpt.Of(topic), err)
	}
	entries := make([]*entry, len(msgs))
	now := time.Now()
	for i, msg := range msgs {
		if entries[i], err = newEntry(msg, now); err != nil {
			return fmt.Errorf("memory: publish to %q: %w", excerpt.Of(topic), err)
		}
	}
	p := publication{entries: entries, conditions: conditions, window: b.config.IDWindow}
	if len(msgs) > 0 {
		if tick := backend.ScheduleTickFromContext(msgs[0].Context()); tick != nil {
			b.topics.publishOnce(tick, topic, p)
			return nil
		}
	}
	b.topics.publish(topic, p)
	return nil
}

// Subscribe starts a subscription, which competes with all others of the same
// topic and Group. It ends with ctx or with Close: it then takes no more messages, waits
// up to Config.DrainTimeout for those that it has handed over, and closes the
// channel. A pattern needs a Group, and so does a topic that has groups and no queue of its own: see Config.Group.
func (b *Broker) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	q, err := b.subscribed(topic, false)
	if err != nil {
		return nil, err
	}
	store := consumedQueue{q, retention{topic, b.config.DeadLettersFor}}
	return b.subscriptions.Start(ctx, store, subscription.Config{
		Topic:            topic,
		Lease:            b.config.Lease,
		MaxExtension:     b.config.MaxExtension,
		MaxInFlight:      b.config.MaxInFlight,
		NackDelay:        b.config.NackDelay,
		DrainTimeout:     b.config.DrainTimeout,
		OperationTimeout: b.config.Lease,
		Logger:           b.config.Logger,
	})
}

// SubscribeInitialize implements [message.SubscribeInitializer]: it declares that topic has these consumers. Messages published
// from then on wait for them. Without a Group it also does so for a topic that has groups, where Subscribe returns
// [backend.ErrGroupRequired].
func (b *Broker) SubscribeInitialize(topic string) error {
	_, err := b.subscribed(topic, true)
	return err
}

// Find implements [backend.Finder]. A Broker has no archives, and looks at everything. The Queue of what is found is the topic, or that
// of [GroupQueue]. All groups are looked at, whatever the Group of the Broker.
func (b *Broker) Find(_ context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	if err := b.checkSelection("find", topic, cmp.Or(s.Check(), checkKey(topic, s))); err != nil {
		return nil, err
	}
	return b.topics.search(topic, newSelector(s), cmp.Or(s.Limit, backend.DefaultFindLimit)), nil
}

// Cancel implements [backend.Canceller].
func (b *Broker) Cancel(_ context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	if err := b.checkSelection("cancel", topic, cmp.Or(s.CheckWaiting(), checkKey(topic, s))); err != nil {
		return backend.Cancelled{}, err
	}
	removed, busy := b.topics.cancel(topic, newSelector(s))
	return backend.Cancelled{Removed: removed, Busy: busy}, nil
}

// CancelRunning implements [backend.Canceller]. Handlers hear of it at once, and nothing is ever Busy.
func (b *Broker) CancelRunning(_ context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	if err := b.checkSelection("cancel", topic, cmp.Or(s.CheckWaiting(), checkKey(topic, s))); err != nil {
		return backend.Cancelled{}, err
	}
	return b.topics.cancelRunning(topic, newSelector(s)), nil
}

// Reschedule implements [backend.Rescheduler].
func (b *Broker) Reschedule(_ context.Context, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
	if err := b.checkSelection("reschedule", topic, cmp.Or(s.CheckWaiting(), checkKey(topic, s), backend.CheckRescheduleTime(at))); err != nil {
		return backend.Rescheduled{}, err
	}
	moved, busy := b.topics.reschedule(topic, newSelector(s), at)
	return backend.Rescheduled{Moved: moved, Busy: busy}, nil
}

// Pause implements [backend.Pauser], for all Brokers over the same messages: with a Group, for the consumers of that group, and
// otherwise for all consumers of the topic.
func (b *Broker) Pause(ctx context.Context, topic string, p backend.Pause) (backend.Paused, error) {
	return groupPauser{b, b.config.Group}.Pause(ctx, topic, p)
}

// Resume implements [backend.Pauser].
func (b *Broker) Resume(ctx context.Context, topic string) (resumed bool, err error) {
	return groupPauser{b, b.config.Group}.Resume(ctx, topic)
}

// Pauses implements [backend.Pauser].
func (b *Broker) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	return groupPauser{b, b.config.Group}.Pauses(ctx, topic)
}

// PauserOf implements [backend.GroupPauser].
func (b *Broker) PauserOf(group string) backend.Pauser { return groupPauser{b, group} }

// DeadLetters implements [backend.DeadLetterStore].
func (b *Broker) DeadLetters(_ context.Context, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	if err := b.checkSelection("list dead letters", from, s.Check()); err != nil {
		return nil, err
	}
	return newDeadLetterSelector(s).list(b.topics, from, cmp.Or(s.Limit, backend.DefaultFindLimit)), nil
}

// CountDeadLetters implements [backend.DeadLetterStore].
func (b *Broker) CountDeadLetters(_ context.Context, from string, s backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	if err := b.checkSelection("count dead letters", from, s.Check()); err != nil {
		return nil, err
	}
	return newDeadLetterSelector(s).count(b.topics, from, cmp.Or(s.Limit, backend.DefaultFindLimit)), nil
}

// Redrive implements [backend.DeadLetterStore].
func (b *Broker) Redrive(_ context.Context, from string, s backend.DeadLetterSelection) (done backend.Redriven, err error) {
	err = b.changeDeadLetters("redrive", from, s, func(selected deadLetterSelector, origins []string) (err error) {
		done.Moved, done.Busy, err = selected.redrive(b.topics, from, origins)
		return err
	})
	return done, err
}

// PurgeDeadLetters implements [backend.DeadLetterStore].
func (b *Broker) PurgeDeadLetters(_ context.Context, from string, s backend.DeadLetterSelection) (done backend.Purged, err error) {
	err = b.changeDeadLetters("purge dead letters", from, s, func(selected deadLetterSelector, origins []string) (err error) {
		done.Removed, err = selected.purge(b.topics, from, origins)
		return err
	})
	return done, err
}

// EditDeadLetter implements [backend.DeadLetterStore].
func (b *Broker) EditDeadLetter(_ context.Context, from string, e backend.DeadLetterEdit) error {
	const op = "edit a dead letter"
	if err := b.checkSelection(op, from, e.Check()); err != nil {
		return err
	}
	return b.explain(op, from, editDeadLetter(b.topics, from, e))
}

// changeDeadLetters does something with dead letters that are selected.
func (b *Broker) changeDeadLetters(op, from string, s backend.DeadLetterSelection, change func(selected deadLetterSelector, origins []string) error) error {
	if err := b.checkSelection(op, from, s.Check()); err != nil {
		return err
	}
	selected := newDeadLetterSelector(s)
	origins, err := selected.origins(from)
	if err == nil {
		err = change(selected, origins)
	}
	return b.explain(op, from, err)
}

// Schedules implements [backend.Scheduler], for all Brokers over the same messages.
func (b *Broker) Schedules() backend.Schedules { return schedules{b} }

// Close ends every subscription and waits for them. Queued messages are lost
// with b and the Brokers that share them.
func (b *Broker) Close() error {
	b.closed.Store(true)
	b.subscriptions.Close()
	return nil
}

// subscribed returns the queue of those that begin to consume. To declare the queue is to have it whatever the topic has.
func (b *Broker) subscribed(topic string, declare bool) (q *queue, err error) {
	if err := b.checkTopic(topic); err != nil {
		return nil, err
	}
	if err := checkSubscribed(topic, b.config.Group); err != nil {
		return nil, b.explain("subscribe", topic, err)
	}
	if b.config.Group == "" {
		q, err = b.topics.subscribe(topic, declare)
		return q, b.explain("subscribe", topic, err)
	}
	q, missed := b.topics.join(topic, b.config.Group)
	logJoined(b.config.Logger, topic, b.config.Group, missed)
	return q, nil
}

func (b *Broker) checkOpen() error {
	if b.invalid == nil && b.closed.Load() {
		return backend.ErrClosed
	}
	return b.invalid
}

func (b *Broker) checkTopic(name string) error {
	if err := b.checkOpen(); err != nil {
		return err
	}
	if err := backend.CheckTopic(name); err != nil {
		return fmt.Errorf("memory: topic %.100q: %w", name, err)
	}
	return nil
}

// checkSelection returns why nothing can be selected of a topic, which invalid says of the selection.
func (b *Broker) checkSelection(op, topic string, invalid error) error {
	if err := b.checkTopic(topic); err != nil || invalid == nil {
		return err
	}
	return b.explain(op, topic, invalid)
}

// explain returns err, with which op has failed on a topic.
func (*Broker) explain(op, topic string, err error) error {
	switch {
	case err == nil:
		return nil
	case op == "subscribe":
		op += " to"
	default:
		op += " in"
	}
	return fmt.Errorf("memory: %s %q: %w", op, excerpt.Of(topic), err)
}
