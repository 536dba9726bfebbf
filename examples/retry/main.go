// Retry shows what becomes of events that fail: one succeeds at the third try, the
// other one is given up and becomes a dead letter.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// Order is to be charged.
type Order struct{ Card string }

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
	router.Use(
		middleware.Retry{Attempts: 3, Delay: 20 * time.Millisecond}.Middleware,
		middleware.Poison{}.Middleware,
	)
	ezq.Handle(router, charger(client))
	ezq.Handle(router, mourner(client), ezq.Topic("ezq_dead"))

	if err := ezq.Publish(ctx, client, Order{Card: "slow"}); err != nil {
		return err
	}
	return router.Run(ctx)
}

func charger(queue message.Publisher) func(context.Context, Order) error {
	return func(ctx context.Context, e Order) error {
		failures := ezq.MetaFromContext(ctx).Failures
		fmt.Printf("charging the %s card, after %d failures\n", e.Card, failures)
		switch {
		case e.Card == "expired":
			return ezq.Permanent(errors.New("the card has expired")) // no retry can cure it
		case failures < 2:
			return errors.New("the bank does not answer")
		}
		fmt.Println("charged")
		return ezq.Publish(ctx, queue, Order{Card: "expired"})
	}
}

// mourner handles the dead letters, which are a topic like any other. On PGMQ,
// Client.Redrive brings them back.
func mourner(queue message.Publisher) func(context.Context, Order) error {
	return func(ctx context.Context, e Order) error {
		headers := ezq.MetaFromContext(ctx).Headers
		fmt.Printf("dead letter: the %s card: %s\n", e.Card, headers[backend.DeadLetterReason])
		return ezq.Publish(ctx, queue, ezq.EndEvent{})
	}
}
