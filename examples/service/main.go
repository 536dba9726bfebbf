// Service is a whole service: it takes orders over HTTP, stores each with its event in
// one transaction, and handles the events beside that. It says whether it is healthy,
// counts what it does, and stops as its supervisor wants.
//
// It needs PGMQ, at EZQ_DATABASE_URL, and creates the table ezq_example_orders there.
// It listens on localhost:8080, or at EZQ_LISTEN:
//
//	curl -X POST 'localhost:8080/orders?item=tea'
//	curl localhost:8080/healthz
//	curl localhost:8080/metrics
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listen := cmp.Or(os.Getenv("EZQ_LISTEN"), "localhost:8080")
	if err := run(ctx, os.Getenv("EZQ_DATABASE_URL"), listen); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped")
}

func run(ctx context.Context, databaseURL, listen string) error {
	if databaseURL == "" {
		return open.ErrNeedsPostgreSQL
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	queue, err := pgmq.New(pool, pgmq.Config{})
	if err != nil {
		return err
	}
	defer queue.Close()
	s := &service{pool: pool, queue: queue, router: ezq.NewRouter(queue, ezq.Config{})}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.serve(ctx, listen)
}

// prepare creates the table and attaches the handlers.
func (s *service) prepare(ctx context.Context) error {
	const table = "create table if not exists ezq_example_orders (id bigserial primary key, item text, packed bool default false)"
	if _, err := s.pool.Exec(ctx, table); err != nil {
		return err
	}
	s.router.Use(middleware.Retry{}.Middleware, middleware.Poison{}.Middleware)
	ezq.Handle(s.router, s.pack, ezq.With(s.queue.InTx()))
	return nil
}

// serve answers requests and handles events until ctx ends, or one of the two fails.
// The last requests are answered before the router stops.
func (s *service) serve(ctx context.Context, listen string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second}
	fmt.Printf("listening on http://%s\n", listener.Addr())

	routing, stopRouting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRouting()
	routed, served := make(chan error, 1), make(chan error, 1)
	go func() { routed <- s.router.Run(routing) }()
	go func() { served <- server.Serve(listener) }()

	select {
	case <-ctx.Done():
	case err = <-served:
	case err = <-routed: // a nil one is an EndEvent
		routed <- nil
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, server.Shutdown(closing))
	stopRouting()
	return errors.Join(err, <-routed)
}
