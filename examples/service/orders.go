package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// OrderPlaced says that there is a new order.
type OrderPlaced struct{ ID int64 }

type service struct {
	pool      *pgxpool.Pool
	client    *pgmq.Client
	router    *ezq.Router
	console   *console.Console
	operators operators
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.place)
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.Handle(consolePath+"/", s.operators.only(s.console))
	return mux
}

// place stores an order and publishes its event: both, or neither.
func (s *service) place(w http.ResponseWriter, r *http.Request) {
	var id int64
	err := pgx.BeginFunc(r.Context(), s.pool, func(tx pgx.Tx) error {
		const insert = "insert into ezq_example_orders (item) values ($1) returning id"
		if err := tx.QueryRow(r.Context(), insert, r.FormValue("item")).Scan(&id); err != nil {
			return err
		}
		return ezq.Publish(r.Context(), s.client.WithTx(tx), OrderPlaced{ID: id})
	})
	if err != nil {
		http.Error(w, "the order could not be stored", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintln(w, "order", id)
}

// pack runs in the transaction that removes its event.
func (s *service) pack(ctx context.Context, e OrderPlaced) error {
	_, err := pgmq.TxFromContext(ctx).Exec(ctx, "update ezq_example_orders set packed = true where id = $1", e.ID)
	return err
}

// health is for the supervisor: it restarts what does not receive events any more.
func (s *service) health(w http.ResponseWriter, _ *http.Request) {
	if err := s.router.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// metrics is in the text format of Prometheus.
func (s *service) metrics(w http.ResponseWriter, _ *http.Request) {
	stats := s.router.Stats()
	for _, topic := range slices.Sorted(maps.Keys(stats)) {
		of := stats[topic]
		fmt.Fprintf(w, "ezq_events_total{topic=%q,outcome=\"succeeded\"} %d\n", topic, of.Succeeded)
		fmt.Fprintf(w, "ezq_events_total{topic=%q,outcome=\"failed\"} %d\n", topic, of.Failed)
		fmt.Fprintf(w, "ezq_events_total{topic=%q,outcome=\"dead_lettered\"} %d\n", topic, of.DeadLettered)
		fmt.Fprintf(w, "ezq_events_in_flight{topic=%q} %d\n", topic, of.InFlight)
	}
}

// prepare creates the table and attaches the handlers.
func (s *service) prepare(ctx context.Context) error {
	const table = "create table if not exists ezq_example_orders (id bigserial primary key, item text, packed bool default false)"
	if _, err := s.pool.Exec(ctx, table); err != nil {
		return err
	}
	s.router.Use(middleware.Retry{}.Middleware, middleware.Poison{}.Middleware)
	ezq.Handle(s.router, s.pack, ezq.Use(s.client.TxMiddleware()))
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
	err = errors.Join(err, s.console.Close(), server.Shutdown(closing)) // Shutdown would wait for pages that are kept up to date
	stopRouting()
	return errors.Join(err, <-routed)
}
