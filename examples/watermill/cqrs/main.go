// Cqrs runs Watermill's cqrs component on the queue: a command, its handler, the event
// that follows, and its handler. With [ezq.Marshaler] they are events like any other,
// which an ezq router or a Python program could publish or handle as well.
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
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// BookRoom is a command.
type BookRoom struct{ Guest string }

// RoomBooked is an event.
type RoomBooked struct{ Guest string }

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
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NewSlogLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	commands, err := cqrs.NewCommandBusWithConfig(client, cqrs.CommandBusConfig{
		GeneratePublishTopic: func(p cqrs.CommandBusGeneratePublishTopicParams) (string, error) { return p.CommandName, nil },
		Marshaler:            ezq.Marshaler{},
	})
	if err != nil {
		return err
	}
	if err := addHandlers(router, client, stop); err != nil {
		return err
	}
	if err := commands.Send(ctx, BookRoom{Guest: "ada"}); err != nil {
		return err
	}
	return router.Run(ctx)
}

func addHandlers(router *message.Router, client backend.Backend, stop func()) error {
	bus, err := cqrs.NewEventBusWithConfig(client, cqrs.EventBusConfig{
		GeneratePublishTopic: func(p cqrs.GenerateEventPublishTopicParams) (string, error) { return p.EventName, nil },
		Marshaler:            ezq.Marshaler{},
	})
	if err != nil {
		return err
	}
	commands, err := cqrs.NewCommandProcessorWithConfig(router, cqrs.CommandProcessorConfig{
		GenerateSubscribeTopic: func(p cqrs.CommandProcessorGenerateSubscribeTopicParams) (string, error) { return p.CommandName, nil },
		SubscriberConstructor:  func(cqrs.CommandProcessorSubscriberConstructorParams) (message.Subscriber, error) { return client, nil },
		Marshaler:              ezq.Marshaler{},
	})
	if err != nil {
		return err
	}
	events, err := cqrs.NewEventProcessorWithConfig(router, cqrs.EventProcessorConfig{
		GenerateSubscribeTopic: func(p cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) { return p.EventName, nil },
		SubscriberConstructor:  func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) { return client, nil },
		Marshaler:              ezq.Marshaler{},
	})
	if err != nil {
		return err
	}

	if err := commands.AddHandlers(cqrs.NewCommandHandler("book", func(ctx context.Context, c *BookRoom) error {
		fmt.Println("booking a room for", c.Guest)
		return bus.Publish(ctx, RoomBooked{Guest: c.Guest})
	})); err != nil {
		return err
	}
	return events.AddHandlers(cqrs.NewEventHandler("tell", func(_ context.Context, e *RoomBooked) error {
		fmt.Println("a room is booked for", e.Guest)
		stop()
		return nil
	}))
}
