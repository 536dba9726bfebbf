// Fanout gives each of two services a copy of every event, by the names of their groups, and a third one those of several
// topics, by a pattern.
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

// OrderRefunded is of interest to one that takes whatever happens to orders.
type OrderRefunded struct{ Number int }

const (
	paid     = "orders.paid"
	refunded = "orders.refunded"
	anything = "orders.*"
)

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
	services := []struct{ group, topic string }{{"billing", paid}, {"shipping", paid}, {"audit", anything}}
	var clients []*pgmq.Client
	for _, service := range services {
		client, err := pgmq.Open(ctx, databaseURL, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: service.group}})
		if err != nil {
			return err
		}
		defer client.Close()
		if err := client.SubscribeInitialize(service.topic); err != nil {
			return err
		}
		clients = append(clients, client)
	}

	if err := ezq.Publish(ctx, shop, OrderRefunded{Number: 1}, ezq.Topic(refunded)); err != nil {
		return err
	}
	// A control event is an event: each group gets its copy.
	events := []any{OrderPaid{Number: 1}, OrderPaid{Number: 2}, ezq.EndEvent{}}
	if err := ezq.PublishBatch(ctx, shop, events, ezq.Topic(paid)); err != nil {
		return err
	}
	for i, client := range clients {
		if err := serve(ctx, services[i].group, services[i].topic, client); err != nil {
			return err
		}
	}
	return nil
}

func serve(ctx context.Context, group, topic string, client *pgmq.Client) error {
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	show := func(ctx context.Context, number int) error {
		_, err := fmt.Printf("%s has order %d (%s)\n", group, number, ezq.MetaFromContext(ctx).PublishedTo)
		return err
	}
	ezq.Handle(router, func(ctx context.Context, e OrderPaid) error { return show(ctx, e.Number) }, ezq.Topic(topic))
	if topic == anything {
		ezq.Handle(router, func(ctx context.Context, e OrderRefunded) error { return show(ctx, e.Number) }, ezq.Topic(topic))
	}
	return router.Run(ctx)
}
