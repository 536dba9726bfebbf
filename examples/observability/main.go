// Observability shows what OpenTelemetry is told: traces and metrics on the standard
// output, and the same metrics where Prometheus gets them.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set. The metrics are
// served on EZQ_METRICS_ADDRESS, or on a free port if that is not set.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	ezqotel "github.com/ezq-go/ezq/otel"
	"github.com/ezq-go/ezq/otel/pgmqotel"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv("EZQ_DATABASE_URL"), os.Getenv("EZQ_METRICS_ADDRESS")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, databaseURL, metricsAddress string) (err error) {
	client, err := open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()

	p, err := newProviders(out)
	if err != nil {
		return err
	}
	// It writes what is left, and asks the queue a last time, which is closed after it.
	defer func() { err = errors.Join(err, p.shutdown(context.WithoutCancel(ctx))) }()
	telemetry, err := observe(p, client)
	if err != nil {
		return err
	}

	address, closeServer, err := serve(cmp.Or(metricsAddress, "127.0.0.1:0"), p.scrape)
	if err != nil {
		return err
	}
	defer closeServer()

	if err := trade(ctx, client, telemetry); err != nil {
		return err
	}
	return show(ctx, out, address)
}

func open(ctx context.Context, databaseURL string) (backend.Backend, error) {
	if databaseURL == "" {
		return memory.New(nil), nil
	}
	return pgmq.Open(ctx, databaseURL, nil)
}

// observe reports the depth and age of a queue on PGMQ. What passes through the queue is
// reported by what it returns.
func observe(p *providers, client backend.Backend) (*ezqotel.Telemetry, error) {
	if client, ok := client.(*pgmq.Client); ok {
		if _, err := pgmqotel.Observe(p.metrics, client, topic); err != nil {
			return nil, err
		}
	}
	return ezqotel.New(&ezqotel.Config{
		TracerProvider: p.traces, MeterProvider: p.metrics,
		ContinueTraces: true, // who publishes here is trusted, so an order is one trace to its end
	})
}

// serve offers the metrics to Prometheus. An address that cannot be had is an error
// here, before anything is published.
func serve(address string, scrape http.Handler) (at string, closeServer func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("EZQ_METRICS_ADDRESS %q: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", scrape)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}

// show gets the metrics as Prometheus does.
func show(ctx context.Context, out io.Writer, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(out, io.MultiReader(strings.NewReader("# what Prometheus gets:\n"), response.Body))
	return err
}
