// Exactlyonce handles an event in a transaction that also acks it: however
// often the event is delivered, its effect on the database happens once.
//
// It needs PGMQ, at EZQ_DATABASE_URL, and creates the table ezq_example_account there.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// Deposit is money that arrives.
type Deposit struct{ Amount int }

// Deposited says that it has arrived.
type Deposited struct{ Balance int }

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

const schema = `
	create table if not exists ezq_example_account (balance int);
	truncate ezq_example_account;
	insert into ezq_example_account values (0)`

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
	if _, err := pool.Exec(ctx, schema); err != nil {
		return err
	}

	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, depositor(client), ezq.Use(client.TxMiddleware()))
	ezq.Handle(router, func(ctx context.Context, e Deposited) error {
		fmt.Println("the balance is", e.Balance)
		return ezq.Publish(ctx, client, ezq.EndEvent{})
	})
	if err := ezq.Publish(ctx, client, Deposit{Amount: 100}); err != nil {
		return err
	}
	return router.Run(ctx)
}

// depositor fails at its first try, after it has done all of its work.
func depositor(client *pgmq.Client) func(context.Context, Deposit) error {
	return func(ctx context.Context, e Deposit) error {
		tx := pgmq.TxFromContext(ctx)
		var balance int
		const query = "update ezq_example_account set balance = balance + $1 returning balance"
		if err := tx.QueryRow(ctx, query, e.Amount).Scan(&balance); err != nil {
			return err
		}
		if err := ezq.Publish(ctx, client.WithTx(tx), Deposited{Balance: balance}); err != nil {
			return err
		}
		if ezq.MetaFromContext(ctx).Failures == 0 {
			fmt.Println("a failure after the work: all of it is rolled back")
			return ezq.RetryAfter(0, errors.New("bad luck"))
		}
		return nil
	}
}
