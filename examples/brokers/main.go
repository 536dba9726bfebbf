// Brokers runs the same handlers on four brokers. Only what opens them differs, in
// open.go:
//
//	go run . -on memory
//	go run . -on pgmq -url postgres://user:password@localhost/database
//	go run . -on nats -url nats://localhost:4222
//	go run . -on rabbitmq -url amqp://guest:guest@localhost:5672
//
// One order fails twice and is tried again; one can never succeed, and becomes a dead
// letter. The program ends by itself, with an EndEvent.
//
// What differs is what the broker promises. On memory and PGMQ a failed event waits in
// the queue, and a dead letter moves in one step. On the others Retry waits in the
// process, and Poison publishes the dead letter and then acks the event.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// OrderPlaced is an event.
type OrderPlaced struct {
	ID     int
	Amount int
}

func main() {
	on := flag.String("on", "memory", "memory, pgmq, nats or rabbitmq")
	url := flag.String("url", "", "address of the broker")
	flag.Parse()
	if err := run(context.Background(), *on, *url, "orders"); err != nil {
		log.Fatal(err)
	}
}

// run needs no knowledge of the broker from here on.
func run(ctx context.Context, on, url, topic string) error {
	publisher, subscriber, err := open(ctx, on, url)
	if err != nil {
		return err
	}
	defer func() { _, _ = subscriber.Close(), publisher.Close() }()
	if err := prepare(subscriber, topic, topic+"_dead"); err != nil {
		return err
	}

	router := ezq.NewRouter(subscriber, &ezq.Config{Concurrency: 1})
	router.Use(
		middleware.Retry{Attempts: 5, Delay: 10 * time.Millisecond}.Middleware,
		middleware.Poison{To: publisher, Topic: topic + "_dead"}.Middleware,
	)
	var settled atomic.Int32
	done := func() error {
		if settled.Add(1) < 3 {
			return nil
		}
		return ezq.Publish(ctx, publisher, ezq.EndEvent{}, ezq.Topic(topic))
	}
	ezq.Handle(router, charge(done), ezq.Topic(topic))
	ezq.Handle(router, func(_ context.Context, dead OrderPlaced) error {
		fmt.Println("dead letter: order", dead.ID)
		return done()
	}, ezq.Topic(topic+"_dead"))

	orders := []OrderPlaced{{ID: 1, Amount: 10}, {ID: 2, Amount: 20}, {ID: 3, Amount: -1}}
	if err := ezq.PublishBatch(ctx, publisher, orders, ezq.Topic(topic)); err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil {
		return err
	}
	fmt.Println("the end")
	return nil
}

// charge returns a handler that finds the bank unreachable twice.
func charge(done func() error) func(context.Context, OrderPlaced) error {
	var calls atomic.Int32
	return func(_ context.Context, order OrderPlaced) error {
		switch {
		case order.Amount < 0:
			return ezq.Permanent(errors.New("a negative amount cannot be charged"))
		case order.ID == 2 && calls.Add(1) <= 2:
			return errors.New("the bank does not answer")
		}
		fmt.Println("charged order", order.ID)
		return done()
	}
}

// prepare makes the broker keep what is published before a consumer subscribes.
func prepare(subscriber message.Subscriber, topics ...string) error {
	initializer, ok := subscriber.(message.SubscribeInitializer)
	if !ok {
		return nil
	}
	for _, topic := range topics {
		if err := initializer.SubscribeInitialize(topic); err != nil {
			return err
		}
	}
	return nil
}
