// Shutdown runs under a supervisor, such as systemd or Kubernetes: at SIGTERM it takes
// no more events, lets handlers finish, and exits with 0. So it does at Ctrl-C.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// Export takes long.
type Export struct{ Name string }

// export finishes early when it is told to stop. Its context lives on meanwhile.
func export(ctx context.Context, e Export) error {
	fmt.Println("exporting", e.Name)
	select {
	case <-time.After(time.Hour):
	case <-ezq.StoppingFromContext(ctx):
		fmt.Println("told to stop: exporting the rest of", e.Name, "next time")
	}
	return ctx.Err()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	client, err := open.Backend(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()

	// What does not finish in time is interrupted, and goes back to the queue. The
	// supervisor must be more patient: TimeoutStopSec, terminationGracePeriodSeconds.
	router := ezq.NewRouter(client, &ezq.Config{DrainTimeout: 20 * time.Second})
	ezq.Handle(router, export)
	if err := ezq.Publish(ctx, client, Export{Name: "invoices"}); err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil {
		return err
	}
	fmt.Println("stopped")
	return nil
}
