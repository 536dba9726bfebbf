package catalog

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// creation is the statement that creates a queue, and its parameters.
type creation struct {
	sql  string
	args []any
}

func plainCreation(queue string) creation {
	return creation{"select pgmq.create($1::text)", []any{pgx.QueryExecModeCacheDescribe, queue}}
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
		_, failed := db.Exec(ctx, creation.sql, creation.args...)
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

// CreateKeysSQL creates a table of keys, each with the time until which it counts, and an index that finds those
// whose time is over.
func CreateKeysSQL(table string) string {
	return "create table " + table + " (key bytea primary key, until timestamptz not null); create index on " + table + " (until)"
}

func queueNotFound(queue string) error {
	return &fault.Error{
		Kind: fault.ErrQueueNotFound, Cause: fmt.Errorf("there is no queue %q", queue),
		Remedy: fault.CreateRemedy(queue) + ", or leave NoCreate unset",
	}
}
