// Fanout gives each of two services a copy of every event, by the names of their groups.
//
// It needs PGMQ 1.11 or later, at EZQ_DATABASE_URL.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// OrderPaid is of interest to several services.
type OrderPaid struct{ Number int }

const orders = "orders"

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	if databaseURL == "" {
		return open.ErrNeedsPostgreSQL
	}
	shop, err := pgmq.Open(ctx, databaseURL, nil)
	if err != nil {
		return err
	}
	defer shop.Close()

	// Usually these are different programs. A group gets what is published once it is known.
	var services []*pgmq.Client
	groups := []string{"billing", "shipping"}
	for _, group := range groups {
		client, err := pgmq.Open(ctx, databaseURL, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
		if err != nil {
			return err
		}
		defer client.Close()
		if err := client.SubscribeInitialize(orders); err != nil {
			return err
		}
		services = append(services, client)
	}

	// A control event is an event: each group gets its copy.
	events := []any{OrderPaid{Number: 1}, OrderPaid{Number: 2}, ezq.EndEvent{}}
	if err := ezq.PublishBatch(ctx, shop, events, ezq.Topic(orders)); err != nil {
		return err
	}
	for i, client := range services {
		if err := serve(ctx, groups[i], client); err != nil {
			return err
		}
	}
	return nil
}

func serve(ctx context.Context, group string, client *pgmq.Client) error {
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	ezq.Handle(router, func(_ context.Context, e OrderPaid) error {
		fmt.Println(group, "has order", e.Number)
		return nil
	}, ezq.Topic(orders))
	return router.Run(ctx)
}
