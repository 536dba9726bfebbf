package pgmq

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// Client is an ezq backend, and a Watermill Publisher and Subscriber, on the
// queues of one database. Open it with [Open] or [New]. Its methods may be
// called concurrently.
type Client struct {
	publisher  *Publisher
	subscriber *Subscriber
	pool       *pgxpool.Pool
	owned      bool // the pool is closed with the client

	refusedAcks *refusedAcks
	stored      *storedMessages
	pauses      *topicPauses
	letters     *deadLetterStore
	*inspector
}

var (
	_ backend.Backend              = (*Client)(nil)
	_ backend.Finder               = (*Client)(nil)
	_ backend.Canceller            = (*Client)(nil)
	_ backend.Rescheduler          = (*Client)(nil)
	_ backend.GroupPauser          = (*Client)(nil)
	_ backend.DeadLetterStore      = (*Client)(nil)
	_ message.SubscribeInitializer = (*Client)(nil)
)

// Open connects to the database at url, which begins with postgres:// or postgresql://, or
// is of the form host=… user=…, as pgx takes it, and checks that PGMQ is there. White
// space around it does not count. An empty url is refused unless libpq's variables say where
// to connect: PGHOST, PGPORT, PGDATABASE, PGUSER or PGSERVICE.
//
// The client opens connections as it needs them: for publishing up to the pool_max_conns
// of the URL (pgx's default: 4, or the number of CPUs), for subscriptions up to
// SubscriberConfig.MaxConns. Close closes them all. Their client_encoding is UTF8,
// whatever the URL says.
//
// An error is an [*Error] of the kind [ErrInvalidConfig], [ErrUnreachable],
// [ErrAuthentication], [ErrPermission], [ErrNotInstalled] or [ErrTooOld]. It
// never contains the URL or the password. A nil config is that of the defaults.
func Open(ctx context.Context, url string, config *Config) (*Client, error) {
	pool, err := dial.OpenPool(ctx, url)
	if err != nil {
		return nil, err
	}
	client, err := New(pool, config)
	if err != nil {
		pool.Close()
		return nil, err
	}
	client.owned = true
	if err := catalog.CheckInstalled(ctx, pool); err != nil {
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

// New returns a client that publishes through pool, which stays the caller's.
// Subscriptions connect as pool does, but on connections of their own: see
// SubscriberConfig.MaxConns. New does not connect: a server that lacks something is
// reported by the first Publish or Subscribe, and so is a pool whose client_encoding is
// not UTF8, through which nothing is published. A nil config is that of the defaults.
func New(pool *pgxpool.Pool, config *Config) (*Client, error) {
	settings, err := orZero(config).withDefaults()
	if err != nil {
		return nil, err
	}
	wakeups, catalog := wakeup.NewSignals(), catalog.New()
	subscriber := newSubscriber(pool, settings.Subscriber, settings.Logger, wakeups, catalog)
	publisher := newPublisher(pool, pool, settings.Publisher, wakeups, catalog)
	stored, pauses := newStoredMessages(publisher), newTopicPauses(publisher, subscriber)
	return &Client{
		pool:        pool,
		publisher:   publisher,
		subscriber:  subscriber,
		stored:      stored,
		letters:     newDeadLetterStore(publisher),
		pauses:      pauses,
		refusedAcks: newRefusedAcks(subscriber.logger),
		inspector:   newInspector(stored, pauses),
	}, nil
}

// Features implements [backend.Backend].
func (c *Client) Features() backend.Features { return features() }

// Publish implements [message.Publisher]: see [Publisher.Publish].
func (c *Client) Publish(topic string, msgs ...*message.Message) error {
	return c.publisher.Publish(topic, msgs...)
}

// Subscribe implements [message.Subscriber]: see [Subscriber.Subscribe].
func (c *Client) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return c.subscriber.Subscribe(ctx, topic)
}

// SubscribeInitialize implements [message.SubscribeInitializer]: it creates the
// queue of topic, if there is none, without subscribing: see
// [Subscriber.SubscribeInitialize].
func (c *Client) SubscribeInitialize(topic string) error {
	return c.subscriber.SubscribeInitialize(topic)
}

// WithTx returns a publisher whose messages become visible when tx commits, and
// vanish if it rolls back. The publisher is valid until tx ends and need not be
// closed. A failed publish aborts tx, as any failed statement does.
//
// A queue that does not exist yet is created at once, outside of tx. A group gets
// what is published by a call that began after the group's Subscribe had returned; but
// under REPEATABLE READ and SERIALIZABLE a transaction sees the groups that there were
// when it began, and later ones miss what it publishes. Use READ COMMITTED, which is
// the default, where groups come while publishers run.
//
// A transaction that is to be prepared (PREPARE TRANSACTION) needs
// PublisherConfig.NoNotify.
func (c *Client) WithTx(tx pgx.Tx) *Publisher {
	if tx == nil {
		return c.publisher.withTx(noTx{"add the handler with ezq.Use(client.TxMiddleware()), which pgmq.TxFromContext(ctx) is from"})
	}
	return c.publisher.withTx(tx)
}

// WithSQLTx is [Client.WithTx] for a transaction of database/sql, with any driver for
// PostgreSQL. The driver's connections must have the client_encoding UTF8, which is
// not checked: set it in their URL where the database or the role has another one. Nor
// can the bindings be looked up in tx: under REPEATABLE READ and SERIALIZABLE, a publish
// to a topic that got a group after tx began is refused with [ErrRejected].
func (c *Client) WithSQLTx(tx *sql.Tx) *Publisher {
	if tx == nil {
		return c.publisher.withTx(noTx{"begin one with BeginTx of the *sql.DB"})
	}
	return c.publisher.withTx(sqlTx{tx, c.pool})
}

// TxMiddleware returns middleware that runs a handler in a transaction on the client's pool.
// The handler's statements through [TxFromContext], its publishes through
// client.WithTx(pgmq.TxFromContext(ctx)), and the removal of the message from its queue commit
// together, or none of them does:
//
//	ezq.Handle(router, pay, ezq.Use(client.TxMiddleware()))
//
// The transaction is rolled back if the handler fails or is interrupted, and if
// the message's lease was lost: however often a message is delivered, its effect
// happens once. The error then matches [backend.ErrLeaseLost].
//
// PostgreSQL may refuse the removal for what is wrong with the queue's table or archive, or
// for a privilege that the role lacks. A trigger, a rule or a policy may quietly keep the row,
// and another session may have locked it for more than 3 seconds. Then the transaction is
// rolled back too, and the message has not failed: nothing is counted, and it comes again, a
// second later at first and up to a minute later the longer that lasts. The log says so, and
// what to do; Router.Ready does not, since the topic is received from.
//
// If the server's answer to the commit is lost, the message counts as failed. If
// it was committed after all, the message is gone and does not come back.
//
// The transaction is open for as long as the handler runs, which keeps a
// connection, and VACUUM from removing rows: it is for handlers that work in this
// database and are done soon. The messages must come from a [Client], or a
// Subscriber, on the same database.
//
// A handler that publishes with client.Publish, or asks a [KeyStore], needs a second
// connection of the pool. If none is free within 2 seconds, because other handlers have
// them for their transactions, that fails with an error of the kind [ErrInvalidConfig].
//
// It is for a handler that is alone with its message. For one of several handlers of
// an event, and for a batch handler, every event fails with an error that says so.
func (c *Client) TxMiddleware() message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return txHandler{pool: c.pool, refusedAcks: c.refusedAcks, next: next}.handle
	}
}

// Arrivals returns messages of the queue of topic, or of a group, and of its archive, in the order of their Rows, which
// is about that in which they were stored. One that was acked is only there where the archive keeps it. Arrivals changes nothing and takes
// no lease; it looks at 10,000 rows of each table at most, and reads [MaxArrivals]. No queue has no messages, which is no error.
// The role needs SELECT on the queue. Without SELECT on the archive, that is left out, and the error is a [backend.TruncatedError].
func (c *Client) Arrivals(ctx context.Context, topic string, a ArrivalSelection) ([]Arrival, error) {
	return a.arrivals(ctx, c.inspector, topic)
}

// CreateQueue creates the queue that subscriptions to topic read: the topic's, or
// that of the Group. If it exists and is of that kind, it does nothing. A queue of
// another kind is an error of the kind [ErrInvalidConfig]; it stays as it is. That of a Group is
// not bound to the topic: [Subscriber.SubscribeInitialize] does that, when publishers may insert there.
//
// The role needs what pgmq.create needs: CREATE on the schema pgmq, and SELECT and
// INSERT on pgmq.meta. A partitioned queue also needs the extension pg_partman,
// without which the error matches [errors.ErrUnsupported]. Nil options are those of the
// defaults.
func (c *Client) CreateQueue(ctx context.Context, topic string, options *QueueOptions) error {
	queue, err := c.subscriber.consumedQueue(topic)
	if err == nil {
		err = createQueue(ctx, c.pool, queue, orZero(options))
	}
	return fault.Classify("create queue", topic, err)
}

// DropQueue deletes the queue that subscriptions to topic read, the topic's or
// that of the Group, with all its messages and, as PGMQ does, with its archive.
// It reports whether there was one.
//
// Subscriptions to it go on, log that the queue is gone, and continue if it comes
// back; a publish creates it anew, unless NoCreate is set, or the topic has groups. A
// group whose queue is dropped gets no copies any more, until it subscribes again.
//
// The role must own the queue and may DELETE from pgmq.meta. DropQueue waits at most
// 5 seconds for transactions that have used the queue: other sessions that need it
// wait meanwhile.
func (c *Client) DropQueue(ctx context.Context, topic string) (existed bool, err error) {
	queue, err := c.subscriber.consumedQueue(topic)
	if err == nil {
		existed, err = dropQueue(ctx, c.pool, queue)
		c.publisher.routes.ForgetQueue(topic, queue)
	}
	return existed, fault.Classify("drop queue", topic, err)
}

// Queues returns all queues of PGMQ in this database, in the order of their
// names, whichever role created them. The role needs SELECT on pgmq.meta.
func (c *Client) Queues(ctx context.Context) ([]QueueInfo, error) {
	err := c.publisher.checkOpen()
	var queues []QueueInfo
	if err == nil {
		queues, err = listQueues(ctx, c.pool)
	}
	return queues, fault.Classify("list queues", "", err)
}

// Replay publishes archived messages again, in the order in which they were
// archived, and returns how many. They keep their ids, begin with no failures, and expire no more;
// in PGMQ they are new messages, with a new msg_id. The archive keeps its copies,
// so replaying twice delivers twice. Messages that consumers put there as unreadable,
// as their headers say, are not published again.
//
// It replays the archive of the queue that subscriptions to topic read, the
// topic's or that of the Group, into that queue, in batches: if it fails, those
// that it has counted are published. The role needs SELECT on the archive and
// INSERT (vt, message, headers, last_read_at) on the queue.
func (c *Client) Replay(ctx context.Context, topic string, filter ReplayFilter) (replayed int, err error) {
	return replay(ctx, c.publisher, c.subscriber, topic, filter)
}

// PurgeArchive deletes the messages that were archived before that time, by the
// clock of PostgreSQL, from the archive of the queue that subscriptions to topic
// read, and returns how many. It does so in batches, and an error counts what the table
// keeps, as [Client.PurgeQueue] does.
// The role needs SELECT, UPDATE and DELETE on the archive.
func (c *Client) PurgeArchive(ctx context.Context, topic string, before time.Time) (deleted int, err error) {
	return purgeArchiveOf(ctx, c.subscriber, topic, before)
}

// PurgeQueue deletes the messages that topic has now, also those that are leased
// or delayed, and returns how many. Of a Client with a Group, it purges that
// group's. A handler that is at work on one of them may finish; its ack is void.
//
// It deletes in batches, of which those that are done stay done if it fails, and
// needs the privileges of a consumer. The TRUNCATE of pgmq.purge_queue needs
// another one, waits for every transaction that uses the queue, and keeps all
// publishers and consumers waiting meanwhile.
//
// Messages that a trigger, a rule or a policy of the table keeps stay: an error counts
// them. If a trigger or a constraint refuses to delete one message, its batch and all that
// come after it stay, up to all of the queue, and the error says how many are deleted.
func (c *Client) PurgeQueue(ctx context.Context, topic string) (deleted int, err error) {
	return purgeTopic(ctx, c.subscriber, topic)
}

// DeadLetters implements [backend.DeadLetterStore]. Those that a consumer of the topic has leased are among them. Looking takes
// no lease, and stops at 100,000 rows, and each statement of it after 10 seconds: rows that take long to read are left out then. The
// Err of a message that is no dead letter matches [ErrStrays]. The role needs SELECT on the dead-letter queue.
//
// A list ends, with a [backend.TruncatedError], when it takes 128 MiB of memory. One dead letter with more than 64 MiB, as JSON, or
// with larger headers than consumers take, has an Err that matches [ErrTooLarge], and no Payload and Metadata.
// [Client.DeadLetterHeads] needs little memory, and [Client.ReadDeadLetter] reads a single one.
func (c *Client) DeadLetters(ctx context.Context, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	return c.letters.list(ctx, from, s, listedDeadLetter(c.letters.maxListed))
}

// DeadLetterHeads returns what DeadLetters does, without the Payload and the Metadata,
// and with at most 2049 characters of each text. Each dead letter takes some
// kilobytes, whatever it contains, and the list ends at 128 MiB too.
func (c *Client) DeadLetterHeads(ctx context.Context, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	return c.letters.list(ctx, from, s, headOfDeadLetter(c.letters.maxListed))
}

// ReadDeadLetter returns the message in this Row of a dead-letter topic. If it is not there any
// more, the error matches [pgx.ErrNoRows]. Of a message that is longer than maxBytes when
// PostgreSQL has written it out, with its headers, only Row and At are read, and that much of
// its JSON as the Payload; its Err then matches [ErrTooLarge]. A maxBytes of 0 is no limit.
func (c *Client) ReadDeadLetter(ctx context.Context, from string, row int64, maxBytes int) (backend.FoundDeadLetter, error) {
	return c.letters.readOne(ctx, from, row, maxBytes)
}

// CountDeadLetters implements [backend.DeadLetterStore]. It looks as DeadLetters does.
func (c *Client) CountDeadLetters(ctx context.Context, from string, s backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	return c.letters.count(ctx, from, s)
}

// Origins says what [Client.Redrive] would do with the dead letters that could be moved
// now, if it was called with the same selection, the Limit aside: where they go, and what
// stays. It looks at the oldest 10,000, and moves nothing. Those that go somewhere come first, then those
// whose queue is missing, then strays; of each, first those of which there are most.
func (c *Client) Origins(ctx context.Context, from string, s backend.DeadLetterSelection) ([]Origin, error) {
	return c.letters.origins(ctx, from, s)
}

// Redrive implements [backend.DeadLetterStore]. Each dead letter goes to the queue that it was in, which is the topic's own or that of one of
// its groups. If it does not say which, as one that Watermill's PoisonQueue has written, it is published
// to its topic anew, to all of that topic's groups. No queue is created.
//
// Each role that may insert into the queue of from can forge the origin of a dead letter.
// So a dead letter of another topic stays, as does one that names a queue which is not
// its topic's, and a message that says no origin: an error of the kind [ErrStrays] counts
// these, and [Client.Origins] shows them. Those whose queue cannot be filled stay, the rest is moved, and an error says so. The role
// needs SELECT, UPDATE and DELETE on the dead-letter queue, and INSERT on the queues.
func (c *Client) Redrive(ctx context.Context, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
	return c.letters.redrive(ctx, from, s)
}

// PurgeDeadLetters implements [backend.DeadLetterStore]. It deletes in batches, as [Client.PurgeQueue] does, and those too that Redrive
// leaves, because they name a queue that is not their topic's. Messages that do not say that they came from one of the topics stay,
// and an error of the kind [ErrStrays] counts them. The role needs SELECT, UPDATE and DELETE on the dead-letter queue.
func (c *Client) PurgeDeadLetters(ctx context.Context, from string, s backend.DeadLetterSelection) (backend.Purged, error) {
	return c.letters.purge(ctx, from, s)
}

// EditDeadLetter implements [backend.DeadLetterStore]. It reads dead letters of up to 64 MiB. A payload of more than
// MaxPayloadBytes is refused with [ErrTooLarge]. The role needs SELECT and UPDATE on the dead-letter queue.
func (c *Client) EditDeadLetter(ctx context.Context, from string, e backend.DeadLetterEdit) error {
	return c.letters.edit(ctx, from, e)
}

// Find implements [backend.Finder]: see [backend.Selection]. By UniqueKey, an index finds the messages in the queues,
// if there is one. Otherwise it looks at the newest 100,000 rows of each table, in statements of 10 seconds at most,
// unless the table has the index that the error names. It leaves out messages with large headers if those take longer,
// and says so. An Event and a Field are found if jsonb can hold the payload.
//
// All that it returns is in memory at once. When the payloads and the metadata take 128 MiB, as Go holds them, or those of a table have
// taken 10 seconds to read, it reads no more of them: all other messages have an Err, which matches [ErrTooLarge] where
// memory is the reason, and a [backend.TruncatedError] says how many they are. Find these by their IDs.
//
// The role needs SELECT on the tables, and on pgmq.topic_bindings. Those that it may not
// read are left out, and an error names them.
func (c *Client) Find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	return c.stored.find(ctx, topic, s)
}

// Cancel implements [backend.Canceller], with one statement for each queue. What it looks at
// is bounded as in [Client.Find]. The role needs SELECT, UPDATE (vt) and DELETE on the queues.
func (c *Client) Cancel(ctx context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	return c.stored.cancel(ctx, topic, s)
}

// CancelRunning implements [backend.Canceller], with the privileges of Cancel. Processes that hear
// notifications tell their handlers within a second, and others within a third of their Lease.
func (c *Client) CancelRunning(ctx context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	return c.stored.cancelRunning(ctx, topic, s)
}

// Reschedule implements [backend.Rescheduler], as Cancel does [backend.Canceller]. The role
// needs SELECT and UPDATE (vt) on the queues.
func (c *Client) Reschedule(ctx context.Context, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
	return c.stored.reschedule(ctx, topic, s, at)
}

// Pause implements [backend.Pauser]: for the consumers of the Group, or without one, for all of the topic. Processes that hear
// notifications stop fetching at once, and others within their PollInterval; one whose listening connection is cut notices that
// within 15 seconds. Consumers of programs that do not use this package, and those of earlier versions, are not paused.
//
// The pause is a row of the table pgmq.ezq_pauses, which is created if it is not there. The role needs SELECT, INSERT and
// UPDATE on it; consumers need SELECT. Those that may not read it log a warning, and are not paused.
func (c *Client) Pause(ctx context.Context, topic string, p backend.Pause) (backend.Paused, error) {
	return c.pauses.Pause(ctx, topic, p)
}

// Resume implements [backend.Pauser]: for the consumers that [Client.Pause] pauses. A client without a Group does not resume a
// group that was paused by itself. The role needs SELECT and DELETE on pgmq.ezq_pauses.
func (c *Client) Resume(ctx context.Context, topic string) (resumed bool, err error) {
	return c.pauses.Resume(ctx, topic)
}

// Pauses implements [backend.Pauser]. The role needs SELECT on pgmq.ezq_pauses. If there are more than 10,000, the
// first ones come with a [*backend.TruncatedError].
func (c *Client) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	return c.pauses.Pauses(ctx, topic)
}

// PauserOf implements [backend.GroupPauser]. It needs the rights of [Client.Pause], [Client.Resume] and [Client.Pauses].
func (c *Client) PauserOf(group string) backend.Pauser { return c.pauses.of(group) }

// Schedules implements [backend.Scheduler]. The role needs SELECT (msg_id, message) on pgmq.q_ezq_schedules, and to
// pause and resume UPDATE (message). More than 10,000, and messages that take long to read, are left out with a [*backend.TruncatedError].
func (c *Client) Schedules() backend.Schedules { return schedules{c.publisher} }

// Check looks for what endangers the queues of the database: what slows them down, stops them, or loses
// events. It returns what it has found, the most severe first, and nothing about a healthy database. Each kind has a
// section in docs/doctor.md. Of each kind there are at most 20 findings, and one that counts the others. An error says why
// it could not look, and what it has found by then comes with it.
//
// It writes nothing, takes no lease, and looks with short statements, each for 5 seconds at most and at no more than a
// thousand messages of a queue. A program can call it when it starts, and a test can require that nothing is found. What
// the role may not see is a finding with the ID not-checked: docs/doctor.md has the grants. It reads no table that would
// run code of a role which this one has no reason to trust. With NoCreate the owners of queues are trusted, and such
// tables are no finding.
func (c *Client) Check(ctx context.Context) ([]Finding, error) {
	err := c.publisher.checkOpen()
	var found []Finding
	if err == nil {
		found, err = check(ctx, c.pool, c.publisher.create == nil, time.Now)
	}
	return found, fault.Classify("check", "", err)
}

// Metrics looks at the queue that subscriptions to topic read: the topic's, or
// that of the Group. It costs about the same however many messages there are: it
// counts no further than 10,000, where pgmq.metrics reads the whole table. The
// role needs SELECT (vt) on the queue.
func (c *Client) Metrics(ctx context.Context, topic string) (QueueMetrics, error) {
	const op = "measure"
	queue, err := c.subscriber.consumedQueue(topic)
	if err != nil {
		return QueueMetrics{}, fault.Classify(op, topic, err)
	}
	found, err := measure(ctx, c.pool, QueueInfo{Name: queue, Topic: topic, Group: c.subscriber.config.Group}, "")
	return found, c.subscriber.consumerError(ctx, op, topic, err)
}

// AllMetrics looks at every queue of the database as [Client.Metrics] does,
// whichever role created it, in the order of their names: those of groups and of
// dead letters too. The role needs SELECT on pgmq.meta, and SELECT (vt) on the queues. Those that
// have no row in pgmq.meta, as after a restore of the schema alone, are missing, and an error says so. Those that
// it cannot look at are missing, and an error says so: also those that another
// transaction has locked as a whole, for which it waits 500 ms each.
func (c *Client) AllMetrics(ctx context.Context) ([]QueueMetrics, error) {
	queues, err := c.Queues(ctx)
	if err != nil {
		return nil, err
	}
	return measureAll(ctx, c.pool, queues)
}

// Stats tells about each topic that has been subscribed to: see [Subscriber.Stats].
// About the queues themselves see [Client.Metrics].
func (c *Client) Stats() map[string]SubscriptionStats { return c.subscriber.Stats() }

// Tune sets storage parameters of the queue that subscriptions to topic read, the
// topic's or that of the Group. PGMQ creates queues with PostgreSQL's defaults,
// which are made for tables that keep their rows.
//
// ezq never calls Tune itself. It takes SHARE UPDATE EXCLUSIVE: it waits for
// VACUUM and CREATE INDEX on the queue, blocks neither readers nor writers, and rewrites no rows. It applies to pages
// filled later, and to the next autovacuum. Tune the queue again after it was dropped, or has got new partitions.
//
// The role must own the queue; otherwise it is an error of the kind [ErrPermission]. Nil options are those of the defaults.
func (c *Client) Tune(ctx context.Context, topic string, options *TuneOptions) error {
	queue, err := c.subscriber.consumedQueue(topic)
	if err == nil {
		err = tune(ctx, c.pool, queue, orZero(options))
	}
	return fault.Classify("tune", topic, err)
}

// KeyStore returns a store of keys in the named table, such as "app.ezq_seen". It creates
// the table if that is not there, which needs the right to; a table that is there needs
// SELECT, INSERT, UPDATE and DELETE, without which it is refused. Name the schema: of a name without one, the first schema
// of the search_path decides, where others may have made a table of that name. One that would
// run the code of a role which this one has no reason to trust is refused, and one that could
// is logged. An error is an [*Error].
func (c *Client) KeyStore(ctx context.Context, table string) (*KeyStore, error) {
	return openKeyStore(ctx, c.subscriber, table)
}

// Close ends all subscriptions as [Subscriber.Close] does, and then closes the
// connections that the client has opened. It may be called more than once.
func (c *Client) Close() error {
	err := errors.Join(c.subscriber.Close(), c.publisher.Close())
	if c.owned {
		dial.ClosePool(c.pool)
	}
	return err
}
