// Package memory is an ezq backend that keeps events in the process: for tests,
// for examples, and wherever losing events on exit is fine.
//
// It is a queue, not a channel. A message goes to one of the consumers of its
// topic and stays in the queue, leased, until it is acked. It comes back if it
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
	_ backend.Pauser               = (*Broker)(nil)
	_ backend.DeadLetterStore      = (*Broker)(nil)
	_ backend.Scheduler            = (*Broker)(nil)
	_ message.SubscribeInitializer = (*Broker)(nil)
)

// New returns an empty broker. A nil config is that of the defaults. If a number or a
// duration in config is negative, the methods that publish and subscribe return an error
// that says which.
func New(config *Config) *Broker {
	return newBroker(config, newTopics())
}

// Connect returns another broker over the same messages, as a second process has
// it: with a configuration, as for [New], with subscriptions, and with an end of its own.
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
	t, err := b.topic(topic)
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
			t.publishOnce(tick, p)
			return nil
		}
	}
	t.publish(p)
	return nil
}

// Subscribe starts a subscription, which competes with all others of the same
// topic. It ends with ctx or with Close: it then takes no more messages, waits
// up to Config.DrainTimeout for those that it has handed over, and closes the
// channel. A Broker has no groups, and so takes no patterns: see [backend.IsPattern].
func (b *Broker) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	t, err := b.subscribed(topic)
	if err != nil {
		return nil, err
	}
	store := consumedTopic{t, retention{topic, b.config.DeadLettersFor}}
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

// SubscribeInitialize implements [message.SubscribeInitializer]. There is
// nothing to initialize.
func (b *Broker) SubscribeInitialize(topic string) error {
	_, err := b.subscribed(topic)
	return err
}

// Find implements [backend.Finder]. A Broker has neither groups nor archives, and looks at
// everything.
func (b *Broker) Find(_ context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	if err := b.checkSelection("find", topic, s.Check()); err != nil {
		return nil, err
	}
	return b.topics.search(topic, newSelector(s), cmp.Or(s.Limit, backend.DefaultFindLimit)), nil
}

// Cancel implements [backend.Canceller].
func (b *Broker) Cancel(_ context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	if err := b.checkSelection("cancel", topic, s.CheckWaiting()); err != nil {
		return backend.Cancelled{}, err
	}
	removed, busy := b.topics.cancel(topic, newSelector(s))
	return backend.Cancelled{Removed: removed, Busy: busy}, nil
}

// CancelRunning implements [backend.Canceller]. Handlers hear of it at once, and nothing is ever Busy.
func (b *Broker) CancelRunning(_ context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	if err := b.checkSelection("cancel", topic, s.CheckWaiting()); err != nil {
		return backend.Cancelled{}, err
	}
	return b.topics.cancelRunning(topic, newSelector(s)), nil
}

// Reschedule implements [backend.Rescheduler].
func (b *Broker) Reschedule(_ context.Context, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
	if err := b.checkSelection("reschedule", topic, cmp.Or(s.CheckWaiting(), backend.CheckRescheduleTime(at))); err != nil {
		return backend.Rescheduled{}, err
	}
	moved, busy := b.topics.reschedule(topic, newSelector(s), at)
	return backend.Rescheduled{Moved: moved, Busy: busy}, nil
}

// Pause implements [backend.Pauser], for all Brokers over the same messages. A Broker has no groups.
func (b *Broker) Pause(_ context.Context, topic string, p backend.Pause) (backend.Paused, error) {
	t, err := b.topic(topic)
	if err != nil {
		return backend.Paused{}, err
	}
	if err := p.Check(); err != nil {
		return backend.Paused{}, fmt.Errorf("memory: pause %q: %w", excerpt.Of(topic), err)
	}
	return t.pauseFor(topic, p), nil
}

// Resume implements [backend.Pauser].
func (b *Broker) Resume(_ context.Context, topic string) (resumed bool, err error) {
	t, err := b.topic(topic)
	if err != nil {
		return false, err
	}
	return t.resume(nil), nil
}

// Pauses implements [backend.Pauser].
func (b *Broker) Pauses(_ context.Context, topic string) ([]backend.Paused, error) {
	t, err := b.topic(topic)
	if err != nil {
		return nil, err
	}
	if paused, _ := t.Paused(); paused != nil {
		return []backend.Paused{*paused}, nil
	}
	return nil, nil
}

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

func (b *Broker) topic(name string) (*topic, error) {
	if err := b.checkTopic(name); err != nil {
		return nil, err
	}
	return b.topics.get(name), nil
}

// subscribed is topic for consumers.
func (b *Broker) subscribed(name string) (*topic, error) {
	if err := b.checkTopic(name); err != nil {
		return nil, err
	}
	if backend.IsPattern(name) {
		return nil, fmt.Errorf("memory: subscribe to %q: it is a pattern, which groups subscribe to, and a Broker has none: %w; test with backend/pgmq, or subscribe to a topic",
			excerpt.Of(name), errors.ErrUnsupported)
	}
	return b.topics.get(name), nil
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
	if err == nil {
		return nil
	}
	return fmt.Errorf("memory: %s in %q: %w", op, excerpt.Of(topic), err)
}
