// Quickstart publishes a few events, handles them, and stops by itself.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
)

// UserCreated is an event: a plain type, sent as JSON under its own name.
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
	client, err := open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()

	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	ezq.Handle(router, welcome)

	users := []UserCreated{{Email: "ada@example.com"}, {Email: "grace@example.com"}}
	if err := ezq.PublishBatch(ctx, client, users); err != nil {
		return err
	}
	if err := ezq.Publish(ctx, client, ezq.EndEvent{}); err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil {
		return err
	}
	fmt.Println("all events are handled")
	return nil
}

// open is the only part that knows which backend it is.
func open(ctx context.Context, databaseURL string) (backend.Backend, error) {
	if databaseURL == "" {
		return memory.New(nil), nil
	}
	return pgmq.Open(ctx, databaseURL, nil)
}
