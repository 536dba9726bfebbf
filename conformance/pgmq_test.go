package conformance_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestPGMQ_KeepsItsPromises(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openPGMQ(pgtest.Database(t)), conformance.Promises{
		Features: everyFeature(), Durable: true, Groups: true, Patterns: true, Transactions: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true,
	})
}

func TestPGMQ_KeepsItsPromisesToAttachedRouters(t *testing.T) {
	t.Parallel()
	conformance.Run(t, openPGMQ(pgtest.Database(t)), conformance.Promises{
		Features: everyFeature(), Durable: true, Groups: true, Patterns: true, Transactions: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true,
	}, conformance.Attached(), conformance.Only(aboutRouters))
}

// pgmqLease is short, since some cases wait for several of them. On a loaded machine it runs out now
// and then, and its message comes again, so the others have longLease.
const (
	pgmqLease = 2 * time.Second
	longLease = 30 * time.Second
)

func leaseFor(c conformance.PeerConfig) time.Duration {
	if c.MaxExtension > 0 {
		return pgmqLease
	}
	return longLease
}

// openPGMQ returns a factory for systems on one database: cases have topics, and
// connections, of their own.
func openPGMQ(database string) conformance.Open {
	return func(ctx context.Context) (*conformance.System, error) {
		connect := func(c conformance.PeerConfig) (*conformance.Peer, error) {
			return connectPGMQ(ctx, database, c)
		}
		return &conformance.System{Connect: connect, Lease: pgmqLease}, nil
	}
}

func connectPGMQ(ctx context.Context, database string, c conformance.PeerConfig) (*conformance.Peer, error) {
	client, err := pgmq.Open(ctx, database+"&pool_max_conns=2", &pgmq.Config{
		Subscriber: pgmq.SubscriberConfig{
			Group:        c.Group,
			MaxInFlight:  c.MaxInFlight,
			MaxExtension: c.MaxExtension,
			DrainTimeout: c.DrainTimeout,
			Lease:        leaseFor(c),
			MaxConns:     2,
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	begin := func(ctx context.Context) (*conformance.Tx, error) {
		conn, err := pgx.Connect(ctx, database)
		if err != nil {
			return nil, err
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		return &conformance.Tx{
			Publisher: client.WithTx(tx),
			Commit: func() error {
				defer func() { _ = conn.Close(context.Background()) }()
				return tx.Commit(ctx)
			},
			Rollback: func() error {
				defer func() { _ = conn.Close(context.Background()) }()
				return tx.Rollback(ctx)
			},
		}, nil
	}
	return &conformance.Peer{Publisher: client, Subscriber: client, Begin: begin}, nil
}
