package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/lease"
	"github.com/ezq-go/ezq/backend/pgmq/internal/pauses"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
	"github.com/ezq-go/ezq/internal/sparse"
)

// Subscriber is a Watermill Subscriber on PGMQ. Create it with [NewSubscriber],
// or take a [Client], which is one. Its methods may be called concurrently.
type Subscriber struct {
	pool    *pgxpool.Pool // the caller's; its settings are used, not its connections
	config  SubscriberConfig
	logger  *slog.Logger
	wakeups *wakeup.Signals
	catalog *catalog.Catalog
	running *subscription.Subscriptions
	pollMin time.Duration
	lockFor time.Duration // 0: nothing is locked

	counters topicCounters
	owners   catalog.OwnerChecks
	examiner *lease.Examiner

	bindingInterval time.Duration // between two checks whether the group of an idle queue is bound
	pruneInterval   time.Duration // between two rounds through archives

	claimSlots chan struct{} // a token for each claim at work
	lockSlots  chan struct{} // and for each lock

	mu       sync.Mutex       // guards what follows; connect sets all but closed, once
	ownPool  *pgxpool.Pool    // opened when first needed
	listener *wakeup.Listener // likewise; nil with NoListen
	pauses   *pauses.Watcher  // likewise
	pruner   *pruner          // likewise
	closed   bool
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber returns a subscriber that connects as pool does, but on
// connections of its own: see SubscriberConfig.MaxConns. Where logger is nil,
// nothing is logged. A nil config is that of the defaults.
func NewSubscriber(pool *pgxpool.Pool, config *SubscriberConfig, logger watermill.LoggerAdapter) (*Subscriber, error) {
	if pool == nil {
		return nil, &Error{Op: "configure", Kind: ErrInvalidConfig, Cause: errors.New("pool is nil"), Remedy: "pass a *pgxpool.Pool"}
	}
	settings, err := orZero(config).withDefaults()
	if err != nil {
		return nil, err
	}
	return newSubscriber(pool, settings, newSlogLogger(logger), wakeup.NewSignals(), catalog.New()), nil
}

func newSubscriber(pool *pgxpool.Pool, config SubscriberConfig, logger *slog.Logger, wakeups *wakeup.Signals, catalog *catalog.Catalog) *Subscriber {
	return &Subscriber{
		pool: pool, config: config, logger: sparse.New(logger), wakeups: wakeups,
		catalog: catalog, running: subscription.NewSubscriptions(), pollMin: min(pollMin, config.PollInterval), lockFor: config.lockFor(),
		claimSlots: make(chan struct{}, config.MaxConns-1), lockSlots: make(chan struct{}, config.MaxConns-2),
		examiner: lease.NewExaminer(), bindingInterval: lease.BindingInterval, pruneInterval: pruneInterval,
	}
}

// Features reports the promises of this backend: see [backend.Features].
func (s *Subscriber) Features() backend.Features { return features() }

// Subscribe starts a subscription to the queue of topic, which competes with all
// others of that queue, in this process and elsewhere. It ends with ctx or with
// Close. It then claims no more messages, releases those that it has not
// handed over, waits up to DrainTimeout for the others, whose contexts stay
// alive until then, and closes the channel.
//
// A server that cannot be reached, lacks PGMQ, takes no writes, or denies a
// privilege is an [*Error] here. Later failures are logged, counted (see Stats),
// and tried again, for as long as the subscription lasts.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := checkUserTopic(topic); err != nil {
		return nil, s.classify("subscribe", topic, err)
	}
	store, err := s.open(ctx, topic, false)
	if err != nil {
		return nil, s.classify("subscribe", topic, err)
	}
	s.listen(store.QueueName())
	s.pauseWatcher().Watch(ctx, ownQueue(topic), pauses.Consumers{Topic: topic, Group: s.config.Group, Queue: store.QueueName()})
	counters := s.counters.of(topic)
	s.pruner.add(topic, store.QueueName(), counters)
	store.CountQuarantined(&counters.Quarantined)
	return s.running.Start(ctx, store, subscription.Config{
		Topic:            topic,
		Lease:            s.config.Lease,
		MaxExtension:     s.config.MaxExtension,
		MaxInFlight:      s.config.MaxInFlight,
		MaxPrefetch:      maxPrefetch,
		MaxInFlightBytes: s.config.MaxInFlightBytes,
		LockFor:          s.lockFor,
		NackDelay:        s.config.NackDelay,
		MaxNackDelay:     maxNackDelay,
		DrainTimeout:     s.config.DrainTimeout,
		PollMin:          s.pollMin,
		PollMax:          s.config.PollInterval,
		SyncAck:          s.config.SyncAck,
		Linger:           s.config.linger(),
		OperationTimeout: lease.OperationTimeout,
		Final:            s.config.isFinal,
		Counters:         counters,
		Logger:           s.logger,
	})
}

// SubscribeInitialize declares that topic has these consumers: it creates their queue,
// if there is none, and binds that of a Group. Messages published from then on wait for
// them. Without a Group it also does so for a topic that has groups, where Subscribe
// returns [ErrGroupRequired].
//
// From the binding on, publishers need INSERT on the queue of the group: without it, no publish to the
// topic succeeds. If they have grants on single queues, create the queue with [Client.CreateQueue], which binds
// nothing, grant, and bind it then.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	_, err := s.open(context.Background(), topic, true)
	return s.classify("subscribe", topic, err)
}

// classify is [fault.Classify] for the queue that this subscriber has for topic.
func (s *Subscriber) classify(op, topic string, err error) error {
	about := fault.NewSubject(op, topic)
	if queue, known := queueOf(topic, s.config.Group); known == nil {
		about.Queue = queue
	}
	return about.Classify(err)
}

// open makes sure that the queue of topic can be consumed. One that is dropped between two looks is
// created again. To declare it is to create it whatever the topic has.
func (s *Subscriber) open(ctx context.Context, topic string, declare bool) (*lease.Store, error) {
	opened, err := s.openOnce(ctx, topic, declare)
	if errors.Is(err, ErrQueueNotFound) && !s.config.NoCreate {
		return s.openOnce(ctx, topic, declare)
	}
	return opened, err
}

func (s *Subscriber) openOnce(ctx context.Context, topic string, declare bool) (*lease.Store, error) {
	queue, err := s.consumedQueue(topic)
	if err = cmp.Or(err, checkSubscribed(topic, s.config.Group)); err != nil {
		return nil, err
	}
	pool, err := s.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	layout, sql, err := s.prepare(ctx, pool, topic, queue, declare, missedBy(s.config, s.logger).logNew)
	if err != nil {
		return nil, err
	}
	watcher := s.pauseWatcher()
	return lease.NewStore(lease.Config{
		Topic: topic, Queue: queue, Group: s.config.Group, Gone: s.config.queueDropped(queue), Pool: pool, ClaimSlots: s.claimSlots, LockSlots: s.lockSlots,
		Paused:  func() (*backend.Paused, <-chan struct{}) { return watcher.Paused(ownQueue(topic), queue) },
		Wakeups: s.wakeups, DeadLetterTable: s.deadLetterTableOf(queue), MaxMessageBytes: s.config.MaxMessageBytes, MaxBytes: s.config.MaxInFlightBytes, Encoding: layout.Encoding, Logger: s.logger,
		Examiner: s.examiner, BindingInterval: s.bindingInterval, Statements: sql,
		LoadStatements: func(ctx context.Context, was uint32, unbound bool) (*statement.Set, error) {
			return s.loadStatements(ctx, pool, topic, queue, was, unbound)
		},
	}), nil
}

// prepare makes sure that queue can be consumed, and returns its layout and the statements for it. If this binds the
// queue of a group, logMissed is called, unless it is nil.
func (s *Subscriber) prepare(ctx context.Context, pool *pgxpool.Pool, topic, queue string, declare bool, logMissed logMissedFunc) (catalog.Layout, *statement.Set, error) {
	layout, err := s.lookUpOrCreate(ctx, pool, topic, queue, declare)
	if err != nil {
		return layout, nil, err
	}
	if err := s.check(ctx, pool, layout, topic, queue, logMissed); err != nil {
		return layout, nil, err
	}
	catalog.WriteLabel(ctx, pool, s.logger, topic, s.config.Group, queue)
	sql, err := s.statements(ctx, pool, queue, layout)
	return layout, sql, err
}

// loadStatements returns the statements for a queue that was dropped. Publishers create
// a topic's own. That of a group is prepared as at the start: it gets nothing
// without its binding, which the drop has undone, or pgmq.unbind_topic, if the
// queue is the one that it was.
func (s *Subscriber) loadStatements(ctx context.Context, pool *pgxpool.Pool, topic, queue string, was uint32, unbound bool) (*statement.Set, error) {
	if s.config.Group != "" {
		_, sql, err := s.prepare(ctx, pool, topic, queue, false, nil)
		if err != nil {
			return sql, err
		}
		if sql.OID == was && !unbound {
			return sql, nil // a column was dropped, and it has missed nothing
		}
		missedBy(s.config, s.logger).logRestored(ctx, pool, topic, queue, sql.OID == was)
		return sql, nil
	}
	layout, err := s.catalog.LookUp(ctx, pool, queue, nil)
	if errors.Is(err, ErrQueueNotFound) {
		return nil, s.config.queueDropped(queue)
	}
	if err == nil {
		err = s.checkOwners(ctx, pool, queue) // another role may have created it
	}
	if err != nil {
		return nil, err
	}
	return s.statements(ctx, pool, queue, layout)
}

// statements returns the statements for queue, with acks that move messages to its archive if they are kept there.
func (s *Subscriber) statements(ctx context.Context, db DBTX, queue string, layout catalog.Layout) (*statement.Set, error) {
	sql := statement.New(queue, layout)
	if !s.config.Archive {
		return &sql, nil
	}
	columns, err := catalog.ArchiveColumns(ctx, db, queue)
	if err != nil {
		return nil, err
	}
	sql = sql.Archiving(queue, columns)
	return &sql, nil
}

// consumedQueue returns the queue that subscriptions to topic read: the topic's own, or that of the group.
func (s *Subscriber) consumedQueue(topic string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", backend.ErrClosed
	}
	return queueOf(topic, s.config.Group)
}

// lookUpOrCreate looks up the queue, and creates it if that is right.
func (s *Subscriber) lookUpOrCreate(ctx context.Context, pool *pgxpool.Pool, topic, queue string, declare bool) (catalog.Layout, error) {
	create := s.creator(pool)
	if s.config.Group != "" || declare {
		found, err := s.catalog.LookUp(ctx, pool, queue, create)
		if s.config.Group != "" && errors.Is(err, ErrQueueNotFound) {
			err = catalog.GroupNotFound(s.config.Group, queue)
		}
		return found, err
	}
	found, err := s.catalog.LookUp(ctx, pool, queue, nil)
	if !errors.Is(err, ErrQueueNotFound) {
		return found, err
	}
	grouped := false
	if found.Groups {
		bound, err := catalog.Bindings(ctx, pool, topic)
		if err != nil && create != nil {
			return found, err
		}
		grouped = bound.Grouped
	}
	if !grouped {
		found, err = s.catalog.CreateOwn(ctx, topic, queue, create, found.Groups)
		grouped = errors.Is(err, catalog.ErrHasGroups)
	}
	if grouped {
		return found, catalog.GroupRequired()
	}
	return found, err
}

// check makes sure that queue may be consumed, and gets what is published.
func (s *Subscriber) check(ctx context.Context, db DBTX, layout catalog.Layout, topic, queue string, logMissed logMissedFunc) error {
	switch {
	case layout.ReadOnly:
		return layout.ReadOnlyError()
	case !layout.Consume:
		return catalog.ConsumeDenied(queue)
	case s.config.Group != "" && !layout.Groups:
		return catalog.GroupsUnsupported()
	}
	if err := s.checkOwners(ctx, db, queue); err != nil {
		return err
	}
	switch {
	case s.config.Group != "":
		return s.bind(ctx, db, topic, queue, layout.Partitioned, logMissed)
	case layout.Groups:
		return catalog.Join(ctx, db, topic, queue)
	}
	return nil
}

// checkOwners returns an error if queue or its archive would run the code of an untrusted role.
func (s *Subscriber) checkOwners(ctx context.Context, db DBTX, queue string) error {
	if s.config.NoCreate {
		return nil // an administrator has created it
	}
	return s.owners.Check(ctx, db, s.logger, []string{queuename.Table(queue), queuename.Archive(queue)}, "")
}

// bind makes the group known, and logs what it has missed.
func (s *Subscriber) bind(ctx context.Context, db DBTX, topic, queue string, partitioned bool, logMissed logMissedFunc) error {
	own, err := queuename.Of(topic)
	if err != nil {
		return err
	}
	if strings.HasSuffix(topic, backend.DeadLetterSuffix) {
		s.logger.Warn("ezq: dead letters are moved to the topic's own queue, and come to no group: read them without a Group",
			"topic", topic, "group", s.config.Group, "queue", own)
	}
	fresh, err := catalog.Bind(ctx, db, topic, own, queue, !s.config.NoCreate && !partitioned)
	if err == nil && fresh && logMissed != nil {
		logMissed(ctx, db, topic, own, queue)
	}
	return err
}

// creator creates the queues of this subscriber, unless it must not.
func (s *Subscriber) creator(pool *pgxpool.Pool) catalog.Creator {
	if s.config.NoCreate {
		return nil
	}
	return catalog.CreateWith(pool)
}

func (s *Subscriber) listen(queue string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		s.listener.Add(queue)
	}
}

// pauseWatcher returns the watcher of pauses. It is nil before the first connection.
func (s *Subscriber) pauseWatcher() *pauses.Watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pauses
}

// paused returns the pause of the consumers of topic, or nil.
func (s *Subscriber) paused(topic string) *backend.Paused {
	watcher := s.pauseWatcher()
	queue, err := queueOf(topic, s.config.Group)
	if watcher == nil || err != nil {
		return nil
	}
	paused, _ := watcher.Paused(ownQueue(topic), queue)
	return paused
}

// hears reports whether this subscriber hears notifications.
func (s *Subscriber) hears() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener != nil && s.listener.Hears()
}

// deadLetterTableOf returns where dead letters from a queue go. If an administrator has created that queue, its owner
// is trusted with them.
func (s *Subscriber) deadLetterTableOf(from string) lease.DeadLetterTableFunc {
	return func(ctx context.Context, topic string, lookUp bool) (string, error) {
		queue, err := queuename.Of(topic)
		if err != nil {
			return "", fault.Classify("", "", err)
		}
		pool, err := s.connect()
		if err != nil {
			return "", err
		}
		if !lookUp && s.owners.Trusts(from, queue) && s.catalog.Knows(queue) {
			return queuename.Table(queue), nil
		}
		table, err := s.openDeadLetterTable(ctx, pool, topic, queue)
		if err != nil {
			return "", err
		}
		if err := s.owners.Check(ctx, pool, s.logger, []string{table}, catalog.VouchingTable(s.config.NoCreate, from)); err != nil {
			return "", fault.Classify("dead-letter", topic, err)
		}
		s.owners.Trust(from, queue)
		return table, nil
	}
}

func (s *Subscriber) openDeadLetterTable(ctx context.Context, pool *pgxpool.Pool, topic, queue string) (string, error) {
	layout, err := s.catalog.LookUp(ctx, pool, queue, s.creator(pool))
	if err != nil {
		return "", fault.Classify("dead-letter", topic, err)
	}
	if !layout.Publish {
		return "", &Error{
			Op: "dead-letter", Topic: topic, Kind: ErrPermission,
			Cause:  fmt.Errorf("the role may not publish to %s", queuename.Table(queue)),
			Remedy: fmt.Sprintf("let its owner run GRANT INSERT (vt, message, headers) ON %s TO the role", queuename.Table(queue)),
		}
	}
	catalog.WriteLabel(ctx, pool, s.logger, topic, "", queue) // no subscription does
	return queuename.Table(queue), nil
}

func (s *Subscriber) connect() (*pgxpool.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ownPool == nil {
		if s.closed {
			return nil, backend.ErrClosed
		}
		own, err := dial.ConsumerPool(s.pool, s.config.MaxConns)
		if err != nil {
			return nil, err
		}
		s.ownPool = own
		s.pauses = pauses.NewWatcher(pauses.WatcherConfig{
			Pool: own, Interval: s.config.PollInterval, Hears: s.hears, Wakeups: s.wakeups, Logger: s.logger,
		})
		s.pruner = newPruner(own, s.config, s.pruneInterval, s.logger)
		if !s.config.NoListen {
			s.listener = wakeup.NewListener(own.Config(), s.wakeups, s.logger)
		}
	}
	return s.ownPool, nil
}

// Close ends all subscriptions, each as Subscribe says, waits for them, and
// closes the connections. It takes at most DrainTimeout and 5 seconds for
// handlers, and 15 for a server that does not answer. It may be called more than
// once, also concurrently; each call waits.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	own, listener, watcher, pruner := s.ownPool, s.listener, s.pauses, s.pruner
	s.mu.Unlock()
	s.running.Close()
	s.examiner.Close()
	if watcher != nil {
		watcher.Close()
		pruner.close()
	}
	if listener != nil {
		listener.Close()
	}
	if own != nil {
		dial.ClosePool(own)
	}
	sparse.Flush(s.logger)
	return nil
}

// Stats tells about each topic that has been subscribed to, by its name. It is
// cheap, sends no statement, and may be called at any time.
func (s *Subscriber) Stats() map[string]SubscriptionStats {
	stats := s.counters.snapshot()
	for topic, entry := range stats {
		entry.Group, entry.TopicPause = s.config.Group, s.paused(topic)
		stats[topic] = entry
	}
	return stats
}

// consumerError returns err, with which op has failed on the queue that subscriptions to topic
// read.
func (s *Subscriber) consumerError(ctx context.Context, op, topic string, err error) error {
	if s.config.Group == "" && catalog.HasOnlyGroups(ctx, s.pool, topic, err) {
		err = &Error{Kind: ErrGroupRequired, Cause: catalog.ErrHasGroups, Remedy: "set SubscriberConfig.Group to one of them, which Client.Queues lists"}
	}
	return s.classify(op, topic, err)
}
