// Batch handles several events at a time. One of them fails, and it alone.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// Measured is cheap to store together with others.
type Measured struct{ Degrees int }

func store(_ context.Context, events []Measured) error {
	fmt.Println("storing", events)
	failed := ezq.BatchError{}
	for i, e := range events {
		if e.Degrees < -273 {
			fmt.Println("impossible:", e.Degrees)
			failed[i] = ezq.Permanent(errors.New("colder than absolute zero"))
		}
	}
	return failed
}

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	client, err := open.Backend(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()

	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	router.Use(middleware.Poison{}.Middleware)
	ezq.HandleBatch(router, store, ezq.Size(3))

	events := []any{Measured{19}, Measured{20}, Measured{-300}, Measured{21}, Measured{22}, ezq.EndEvent{}}
	if err := ezq.PublishBatch(ctx, client, events); err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil {
		return err
	}
	stats := router.Stats()[ezq.DefaultTopic]
	fmt.Println(stats.Succeeded, "stored,", stats.DeadLettered, "given up")
	return nil
}
