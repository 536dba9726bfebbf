package pgmq

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
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
}

var (
	_ backend.Backend              = (*Client)(nil)
	_ message.SubscribeInitializer = (*Client)(nil)
)

// Open connects to the database at url, which begins with postgres:// or postgresql://, or
// is of the form host=… user=…, as pgx takes it, and checks that PGMQ is there. White
// space around it does not count. An empty url is refused unless libpq's variables say where to connect: PGHOST, PGPORT,
// PGDATABASE, PGUSER or PGSERVICE.
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
	pool, err := openPool(ctx, url)
	if err != nil {
		return nil, err
	}
	client, err := New(pool, config)
	if err != nil {
		pool.Close()
		return nil, err
	}
	client.owned = true
	if err := checkInstalled(ctx, pool); err != nil {
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
	wakeups, catalog := newWakeups(), newCatalog()
	subscriber := newSubscriber(pool, settings.Subscriber, settings.Logger, wakeups, catalog)
	return &Client{
		pool:        pool,
		publisher:   newPublisher(pool, pool, settings.Publisher, wakeups, catalog),
		subscriber:  subscriber,
		refusedAcks: newRefusedAcks(subscriber.logger),
	}, nil
}

// Features implements [backend.Backend].
func (c *Client) Features() backend.Features { return features() }

// features is what both halves of the backend promise.
func features() backend.Features {
	return backend.Features{
		Delay: true, Redelay: true, Attempts: true, Progress: true, DeadLetter: true,
		Ordered: true, Lease: true, Drain: true, Schedules: true,
	}
}

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

// noTx stands for a transaction that is nil, as [TxFromContext] returns it outside of TxMiddleware.
type noTx struct{ remedy string }

// Exec implements [DBTX].
func (t noTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, t.err()
}

// Query implements [DBTX].
func (t noTx) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, t.err() }

func (t noTx) err() error {
	return &Error{Kind: ErrInvalidConfig, Cause: errors.New("the transaction is nil"), Remedy: t.remedy}
}

// Close ends all subscriptions as [Subscriber.Close] does, and then closes the
// connections that the client has opened. It may be called more than once.
func (c *Client) Close() error {
	err := errors.Join(c.subscriber.Close(), c.publisher.Close())
	if c.owned {
		closePool(c.pool)
	}
	return err
}

// closeTimeout is how long closing a pool may take. A connection whose peer does
// not answer any more would hold it up for pgx's own 15 seconds.
const closeTimeout = 5 * time.Second

func closePool(pool *pgxpool.Pool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pool.Close()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
