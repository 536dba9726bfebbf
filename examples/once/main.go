// Once shows three ways to publish an event that is not to be handled more often than needed:
// under an ID, once while it is pending, and the last of a burst.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// InvoiceSent says that an invoice was sent.
type InvoiceSent struct{ Number int }

// SyncRequested asks for a customer's data to be synchronized.
type SyncRequested struct{ Customer int }

// CartChanged says what is in a cart now.
type CartChanged struct{ Cart, Items int }

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

	id := "invoice-7-sent-" + rand.Text() // another one for each run of the example
	for range 2 {                         // as after an error that says that the outcome is unknown
		var result ezq.PublishResult
		if err := ezq.Publish(ctx, client, InvoiceSent{Number: 7}, ezq.ID(id), ezq.ResultTo(&result)); err != nil {
			return err
		}
		fmt.Println("stored:", result.Stored)
	}
	for range 3 {
		if err := ezq.Publish(ctx, client, SyncRequested{Customer: 7}, ezq.Unique("customer-7")); err != nil {
			return err
		}
	}
	for items := range 4 {
		if err := ezq.Publish(ctx, client, CartChanged{Cart: 7, Items: items}, ezq.Delay(200*time.Millisecond), ezq.Debounce("cart-7", time.Second)); err != nil {
			return err
		}
	}

	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	ezq.Handle(router, func(_ context.Context, e InvoiceSent) error {
		fmt.Println("invoice", e.Number)
		return nil
	})
	ezq.Handle(router, func(_ context.Context, e SyncRequested) error {
		fmt.Println("customer", e.Customer)
		return nil
	})
	ezq.Handle(router, func(ctx context.Context, e CartChanged) error {
		fmt.Println("cart", e.Cart, "with", e.Items, "items")
		return ezq.Publish(ctx, client, ezq.EndEvent{})
	})
	return router.Run(ctx)
}
