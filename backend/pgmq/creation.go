package pgmq

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// creation is the statement that creates a queue, and its parameters.
type creation struct {
	sql  string
	args []any
}

func plainCreation(queue string) creation {
	return creation{"select pgmq.create($1::text)", []any{pgx.QueryExecModeCacheDescribe, queue}}
}

// creator creates a queue and returns what it looks like.
type creator func(ctx context.Context, queue string, creation creation) (queueLayout, error)

// createWith creates queues through db. Two that create the same queue at once
// can get in each other's way (before PGMQ 1.6, which takes a lock); they
// succeed if the queue is there afterwards.
func createWith(db queryer) creator {
	return func(ctx context.Context, queue string, creation creation) (queueLayout, error) {
		_, failed := db.Exec(ctx, creation.sql, creation.args...)
		if failed != nil && !isCode(failed, "23505", "42P07", "40P01", "XX000") {
			return queueLayout{}, failed
		}
		found, err := probe(ctx, db, queue)
		if err != nil {
			return queueLayout{}, err
		}
		if !found.exists() {
			return queueLayout{}, firstError(failed, queueNotFound(queue))
		}
		return found, nil
	}
}

// createSeparately creates queues on a connection of its own, for publishers in a
// transaction. The queue is there whatever becomes of the transaction, and a pool
// whose connections are all in transactions is not waited for.
func createSeparately(pool *pgxpool.Pool) creator {
	return func(ctx context.Context, queue string, creation creation) (queueLayout, error) {
		conn, err := connect(ctx, pool.Config())
		if err != nil {
			return queueLayout{}, err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		return createWith(conn)(ctx, queue, creation)
	}
}

func queueNotFound(queue string) error {
	return &Error{
		Kind: ErrQueueNotFound, Cause: fmt.Errorf("there is no queue %q", queue),
		Remedy: fmt.Sprintf("create it with select pgmq.create('%s'), or leave NoCreate unset", queue),
	}
}
