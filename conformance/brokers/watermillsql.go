package brokers

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/conformance"
)

type sqlSchema struct {
	messages func() wsql.SchemaAdapter
	offsets  func() wsql.OffsetsAdapter
	promises conformance.Promises
	parallel int
}

// anyBytes is what its documentation recommends for payloads that are not JSON: by
// default all others are refused.
func anyBytes(string) string { return "BYTEA" }

func defaultSchema() sqlSchema {
	return sqlSchema{
		messages: func() wsql.SchemaAdapter { return wsql.DefaultPostgreSQLSchema{GeneratePayloadType: anyBytes} },
		offsets:  func() wsql.OffsetsAdapter { return wsql.DefaultPostgreSQLOffsetsAdapter{} },
		parallel: 4, // a message that is held in one case holds up the others
		promises: conformance.Promises{
			Features: backend.Features{Ordered: true},
			Durable:  true, Groups: true, Transactions: true,
		},
	}
}

// queueSchema has no groups, and takes no consumer group. It says nothing of order.
func queueSchema() sqlSchema {
	return sqlSchema{
		messages: func() wsql.SchemaAdapter { return wsql.PostgreSQLQueueSchema{GeneratePayloadType: anyBytes} },
		offsets:  func() wsql.OffsetsAdapter { return wsql.PostgreSQLQueueOffsetsAdapter{} },
		promises: conformance.Promises{Durable: true, Transactions: true},
	}
}

func watermillSQL(mode string, schema sqlSchema) Backend {
	return Backend{
		Name: "watermill-sql", Mode: mode, Module: "github.com/ThreeDotsLabs/watermill-sql/v4",
		Promises: schema.promises,
		Timeout:  time.Minute,
		Parallel: schema.parallel,
		Start: func(ctx context.Context, services Services) (conformance.Open, func() error, error) {
			database, drop, err := createDatabase(ctx, services)
			if err != nil {
				return nil, nil, err
			}
			return openWatermillSQL(database, schema), drop, nil
		},
	}
}

func openWatermillSQL(database string, schema sqlSchema) conformance.Open {
	return func(ctx context.Context) (*conformance.System, error) {
		pool, err := pgxpool.New(ctx, database+"&pool_max_conns=10")
		if err != nil {
			return nil, err
		}
		system := &conformance.System{Close: func() error { pool.Close(); return nil }}
		system.Connect = func(c conformance.PeerConfig) (*conformance.Peer, error) {
			return connectWatermillSQL(pool, schema, c)
		}
		return system, nil
	}
}

func connectWatermillSQL(pool *pgxpool.Pool, schema sqlSchema, c conformance.PeerConfig) (*conformance.Peer, error) {
	db := wsql.BeginnerFromPgx(pool)
	publisher, err := wsql.NewPublisher(db, wsql.PublisherConfig{
		SchemaAdapter: schema.messages(), AutoInitializeSchema: true,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	deadline := unsettled
	subscriber, err := wsql.NewSubscriber(db, wsql.SubscriberConfig{
		AckDeadline:      &deadline,
		PollInterval:     50 * time.Millisecond,
		ResendInterval:   50 * time.Millisecond,
		ConsumerGroup:    c.Group,
		SchemaAdapter:    schema.messages(),
		OffsetsAdapter:   schema.offsets(),
		InitializeSchema: true,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, publisher.Close())
	}
	begin := func(ctx context.Context) (*conformance.Tx, error) {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return nil, err
		}
		inTx, err := wsql.NewPublisher(wsql.TxFromPgx(tx), wsql.PublisherConfig{SchemaAdapter: schema.messages()}, watermill.NopLogger{})
		if err != nil {
			return nil, errors.Join(err, tx.Rollback(ctx))
		}
		return &conformance.Tx{
			Publisher: inTx,
			Commit:    func() error { return tx.Commit(ctx) },
			Rollback:  func() error { return tx.Rollback(ctx) },
		}, nil
	}
	return &conformance.Peer{Publisher: publisher, Subscriber: subscriber, Begin: begin}, nil
}
