// Delayed publishes events that are delivered when it is time, and not before. They wait in
// the queue: a program that is restarted meanwhile misses none.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// Reminder reminds a user.
type Reminder struct {
	Of   string
	Last bool
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

	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(ctx context.Context, e Reminder) error {
		fmt.Println(e.Of)
		if !e.Last {
			return nil
		}
		return ezq.Publish(ctx, client, ezq.EndEvent{})
	})

	at := ezq.At(time.Now().Add(2 * time.Second)) // a date; by the clock of the database
	if err := ezq.Publish(ctx, client, Reminder{Of: "the party begins", Last: true}, at); err != nil {
		return err
	}
	after := ezq.Delay(500 * time.Millisecond)
	if err := ezq.Publish(ctx, client, Reminder{Of: "buy a present"}, after); err != nil {
		return err
	}
	if err := ezq.Publish(ctx, client, Reminder{Of: "you are invited"}); err != nil {
		return err
	}
	return router.Run(ctx)
}
