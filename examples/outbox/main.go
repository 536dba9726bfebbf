// Outbox publishes an event in the transaction that changes the data: both are
// there, or neither is.
//
// It needs PGMQ, at EZQ_DATABASE_URL, and creates the table ezq_example_users there.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// UserCreated says that there is a new user.
type UserCreated struct{ Email string }

func welcome(_ context.Context, e UserCreated) error {
	fmt.Println("welcome,", e.Email)
	return nil
}

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	if databaseURL == "" {
		return open.ErrNeedsPostgreSQL
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := pgmq.New(pool, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := pool.Exec(ctx, "create table if not exists ezq_example_users (email text)"); err != nil {
		return err
	}

	if err := signUp(ctx, pool, client, "ada@example.com"); err != nil {
		return err
	}
	fmt.Println("without an address:", signUp(ctx, pool, client, ""))

	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, welcome)
	if err := ezq.Publish(ctx, client, ezq.EndEvent{}); err != nil {
		return err
	}
	return router.Run(ctx)
}

func signUp(ctx context.Context, pool *pgxpool.Pool, client *pgmq.Client, email string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into ezq_example_users (email) values ($1)", email); err != nil {
			return err
		}
		if err := ezq.Publish(ctx, client.WithTx(tx), UserCreated{Email: email}); err != nil {
			return err
		}
		if email == "" { // found out late: neither the row nor the event will be there
			return errors.New("a user needs an address")
		}
		return nil
	})
}
