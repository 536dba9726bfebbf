// Attach adds ezq's handlers to a program that has a Watermill router already, and
// uses the queue beside them as a plain Watermill Publisher and Subscriber.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// UserCreated is a typed event.
type UserCreated struct{ Email string }

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
	existing, err := message.NewRouter(message.RouterConfig{}, watermill.NewSlogLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	// A handler as it was: messages, no types. It takes from one topic and publishes to another.
	existing.AddHandler("sign-ups", "signups", client, ezq.DefaultTopic, client, func(msg *message.Message) ([]*message.Message, error) {
		fmt.Printf("Watermill: %s\n", msg.Payload)
		created, err := ezq.Marshaler{}.Marshal(UserCreated{Email: string(msg.Payload)})
		return []*message.Message{created}, err
	})

	// A handler of ezq's, in the same router.
	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(_ context.Context, e UserCreated) error {
		fmt.Println("ezq: welcome,", e.Email)
		stop()
		return nil
	})
	if err := router.Attach(existing); err != nil {
		return err
	}

	msg := message.NewMessage(watermill.NewUUID(), []byte("ada@example.com"))
	if err := client.Publish("signups", msg); err != nil {
		return err
	}
	return existing.Run(ctx)
}
