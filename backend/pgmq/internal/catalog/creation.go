package catalog

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// creation is the statements that create a queue, without parameters, and the topic of the queue, if it is known.
type creation struct{ sql, topic string }

func plainCreation(queue string) creation { return creation{sql: createSQL("create", queue)} }

func createSQL(function, queue string) string {
	return ownPathSQL + "select pgmq." + function + "(" + sqlfile.Literal(queue) + "::text);\n" + formerPathSQL
}

// OwnPathSQL has names without a schema mean those of PostgreSQL, until the transaction ends. PGMQ's functions have
// such names, and a role that may create functions in a schema of the search_path would have its own run in their place.
const OwnPathSQL = "select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"

// ownPathSQL is OwnPathSQL until formerPathSQL, for the caller's transaction.
const (
	ownPathSQL    = "select pg_catalog.set_config('ezq.search_path', pg_catalog.current_setting('search_path'), true);\n" + OwnPathSQL + ";\n"
	formerPathSQL = "select pg_catalog.set_config('search_path', pg_catalog.current_setting('ezq.search_path'), true)"
)

// CreateUnlogged creates an unlogged queue.
func CreateUnlogged(ctx context.Context, db transact.Queryer, queue string) error {
	_, err := db.Exec(ctx, createSQL("create_unlogged", queue))
	return err
}

// CreatePlain creates a queue as Publish and Subscribe do.
func CreatePlain(ctx context.Context, db transact.Queryer, queue string) error {
	_, err := CreateWith(db)(ctx, queue, plainCreation(queue))
	return err
}

// Creator creates a queue and returns what it looks like.
type Creator func(ctx context.Context, queue string, creation creation) (Layout, error)

// CreateWith creates queues through db. Two that create the same queue at once
// can get in each other's way (before PGMQ 1.6, which takes a lock); they
// succeed if the queue is there afterwards.
func CreateWith(db transact.Queryer) Creator {
	return func(ctx context.Context, queue string, creation creation) (Layout, error) {
		_, failed := db.Exec(ctx, creation.sql)
		if failed != nil && !fault.IsConcurrentCreation(failed) {
			return Layout{}, failed
		}
		found, err := Probe(ctx, db, queue)
		if err != nil {
			return Layout{}, err
		}
		if !found.Exists() {
			return Layout{}, cmp.Or(failed, queueNotFound(queue))
		}
		if creation.topic != "" {
			_ = writeLabel(ctx, db, creation.topic, "", queue) // for people: nothing fails for want of it
		}
		return found, nil
	}
}

// CreateSeparately creates queues on a connection of its own, for publishers in a
// transaction. The queue is there whatever becomes of the transaction, and a pool
// whose connections are all in transactions is not waited for.
func CreateSeparately(pool *pgxpool.Pool) Creator {
	return func(ctx context.Context, queue string, creation creation) (Layout, error) {
		conn, err := dial.Connect(ctx, pool.Config())
		if err != nil {
			return Layout{}, err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		return CreateWith(conn)(ctx, queue, creation)
	}
}

func queueNotFound(queue string) error {
	return &fault.Error{
		Kind: fault.ErrQueueNotFound, Cause: fmt.Errorf("there is no queue %q", queue),
		Remedy: fault.CreateRemedy(queue) + ", or leave NoCreate unset",
	}
}
