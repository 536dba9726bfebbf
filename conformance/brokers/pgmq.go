package brokers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/conformance"
)

type installer func(ctx context.Context, services Services, database string) error

func pgmqBackend(mode string, install installer, syncAck bool) Backend {
	pooled := mode == "behind PgBouncer"
	return Backend{
		Name: "PGMQ", Mode: mode, Module: "github.com/ezq-go/ezq", Ours: true,
		Promises: conformance.Promises{Features: everyFeature(), Durable: true, Groups: true, Patterns: true, Transactions: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true},
		Timeout:  2 * time.Minute,
		Start: func(ctx context.Context, services Services) (conformance.Open, func() error, error) {
			database, stop, err := createDatabase(ctx, services)
			if err != nil {
				return nil, nil, err
			}
			if err := install(ctx, services, database); err != nil {
				return nil, nil, errors.Join(err, stop())
			}
			if pooled {
				through, stopPooler, err := startPooler(ctx, database)
				if err != nil {
					return nil, nil, errors.Join(err, stop())
				}
				drop := stop
				database, stop = through, func() error { return errors.Join(stopPooler(), drop()) }
			}
			return openPGMQ(database, syncAck), stop, nil
		},
	}
}

// behindPooler installs PGMQ; the pooler is started when that is done.
func behindPooler(ctx context.Context, services Services, database string) error {
	return plainSQL(ctx, services, database)
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

func openPGMQ(database string, syncAck bool) conformance.Open {
	return func(ctx context.Context) (*conformance.System, error) {
		connect := func(c conformance.PeerConfig) (*conformance.Peer, error) {
			client, err := pgmq.Open(ctx, database+"&pool_max_conns=2", &pgmq.Config{
				Subscriber: pgmq.SubscriberConfig{
					Group:        c.Group,
					MaxInFlight:  c.MaxInFlight,
					MaxExtension: c.MaxExtension,
					DrainTimeout: c.DrainTimeout,
					Lease:        leaseFor(c),
					MaxConns:     2,
					SyncAck:      syncAck,
				},
				Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				return nil, err
			}
			begin := func(ctx context.Context) (*conformance.Tx, error) { return beginOn(ctx, database, client) }
			return &conformance.Peer{Publisher: client, Subscriber: client, Begin: begin}, nil
		}
		return &conformance.System{Connect: connect, Lease: pgmqLease}, nil
	}
}

// beginOn starts a transaction on a connection of its own.
func beginOn(ctx context.Context, database string, client *pgmq.Client) (*conformance.Tx, error) {
	conn, err := pgx.Connect(ctx, database+"&default_query_exec_mode=exec") // which PgBouncer needs
	if err != nil {
		return nil, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	hangUp := func() { _ = conn.Close(context.Background()) }
	return &conformance.Tx{
		Publisher: client.WithTx(tx),
		Commit:    func() error { defer hangUp(); return tx.Commit(ctx) },
		Rollback:  func() error { defer hangUp(); return tx.Rollback(ctx) },
	}, nil
}
