// Service is a whole service: it takes orders over HTTP, stores each with its event in
// one transaction, and handles the events beside that. It says whether it is ready,
// counts what it does, stops as its supervisor wants, and has a console for its operators.
//
// It needs PGMQ, at EZQ_DATABASE_URL, and creates the table ezq_example_orders there.
// It listens on localhost:8080, or at EZQ_LISTEN:
//
//	curl -X POST 'localhost:8080/orders?item=tea'
//	curl localhost:8080/healthz
//	curl localhost:8080/metrics
//
// The console is at localhost:8080/console/, for the users that EZQ_CONSOLE_USERS names, as in "ada:secret,alan:other:read".
// Without it there is no console. Passwords travel with each request: serve it with TLS, as behind a proxy.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listen := cmp.Or(os.Getenv("EZQ_LISTEN"), "localhost:8080")
	users, err := parseOperators(os.Getenv("EZQ_CONSOLE_USERS"))
	if err == nil {
		err = run(ctx, os.Getenv("EZQ_DATABASE_URL"), listen, users)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped")
}

func run(ctx context.Context, databaseURL, listen string, users operators) error {
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
	s := &service{pool: pool, client: client, router: ezq.NewRouter(client, nil), operators: users}
	if s.console, err = console.New(client, &console.Config{Prefix: consolePath, Allow: users.rights, User: operatorOf}); err != nil {
		return err
	}
	defer s.console.Close()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.serve(ctx, listen)
}
