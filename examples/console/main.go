// Console shows the console of a small shop, which has events of all kinds: they wait, are handled, are delayed, fail, and
// become dead letters. It runs in memory, and prints the URL to open.
//
// It listens on localhost:8081, or at EZQ_LISTEN. Each visitor may do everything: examples/service shows a console with
// authentication.
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

	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/internal/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cmp.Or(os.Getenv("EZQ_LISTEN"), "localhost:8081")); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped")
}

func run(ctx context.Context, listen string) error {
	shop := demo.New(1)
	queues, err := console.New(shop.Broker(), &console.Config{
		Title:    "demo",
		Interval: time.Second,
		Allow:    func(*http.Request) console.Rights { return console.Everything() },
	})
	if err != nil {
		return err
	}
	defer queues.Close()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Printf("open http://%s\n", listener.Addr())
	return serve(ctx, shop, listener, queues)
}

// serve keeps the shop and its console open until ctx ends, or one of the two fails.
func serve(ctx context.Context, shop *demo.Shop, listener net.Listener, queues *console.Console) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{Handler: queues, ReadHeaderTimeout: 5 * time.Second}
	served, closed := make(chan error, 1), make(chan error, 1)
	go func() { closed <- shop.Run(ctx) }()
	go func() { served <- server.Serve(listener) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	case err = <-closed:
		closed <- nil
	}
	stop()
	// The pages that are kept up to date end first: Shutdown would wait for them.
	err = errors.Join(err, queues.Close())
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(closing), <-closed)
}
