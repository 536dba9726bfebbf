package backend_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// A message goes back with a delay and with the count of its failures, which the next delivery
// knows.
func ExampleNack() {
	broker := memory.New(nil)
	messages, _ := broker.Subscribe(context.Background(), "t")
	_ = broker.Publish("t", message.NewMessage("1", nil))

	backend.Nack(<-messages, backend.Redelivery{Delay: time.Millisecond, Failures: 1})
	msg := <-messages
	delivery := backend.DeliveryFromContext(msg.Context())
	fmt.Println("delivery", delivery.Number, "after", delivery.Failures, "failure")
	msg.Ack()
	fmt.Println(broker.Close())
	// Output:
	// delivery 2 after 1 failure
	// <nil>
}

// What a consumer took, and has no time to begin with, has not been delivered.
func ExampleRelease() {
	broker := memory.New(nil)
	messages, _ := broker.Subscribe(context.Background(), "t")
	_ = broker.Publish("t", message.NewMessage("1", nil))

	backend.Release(<-messages)
	msg := <-messages
	fmt.Println("delivery", backend.DeliveryFromContext(msg.Context()).Number)
	msg.Ack()
	fmt.Println(broker.Close())
	// Output:
	// delivery 1
	// <nil>
}

// A message that is given up moves to another topic, and says why.
func ExampleDeadLetter() {
	ctx := context.Background()
	broker := memory.New(nil)
	messages, _ := broker.Subscribe(ctx, "t")
	letters, _ := broker.Subscribe(ctx, "t_dead")
	_ = broker.Publish("t", message.NewMessage("1", nil))

	reason := message.Metadata{backend.DeadLetterReason: "no such order"}
	fmt.Println(backend.DeadLetter(<-messages, backend.DeadLetterTarget{Topic: "t_dead", Metadata: reason}))
	letter := <-letters
	fmt.Println(letter.UUID, letter.Metadata[backend.DeadLetterReason])
	letter.Ack()
	fmt.Println(broker.Close())
	// Output:
	// true
	// 1 no such order
	// <nil>
}

// A delay is Watermill's own metadata, so it needs no method of the publisher.
func ExampleSetDelay() {
	msg := message.NewMessage("1", nil)
	backend.SetDelay(msg, 90*time.Second)
	delay, _, err := backend.DelayOf(msg)
	fmt.Println(delay, err)
	// Output: 1m30s <nil>
}

// What expires is metadata too. A time that cannot be read does not count.
func ExampleExpiryOf() {
	msg := message.NewMessage("1", nil)
	msg.Metadata.Set(backend.ExpiresAt, "2026-12-01T09:00:00Z")
	fmt.Println(backend.ExpiryOf(msg.Metadata))
	msg.Metadata.Set(backend.ExpiresAt, "soon")
	fmt.Println(backend.ExpiryOf(msg.Metadata).IsZero())
	// Output:
	// 2026-12-01 09:00:00 +0000 UTC
	// true
}

// What does not say what it promises, promises nothing.
func ExampleFeaturesOf() {
	fmt.Println(backend.FeaturesOf(memory.New(nil)).Redelay)
	fmt.Println(backend.FeaturesOf(gochannel.NewGoChannel(gochannel.Config{}, nil)) == backend.Features{})
	// Output:
	// true
	// true
}

// The * is one segment of a topic, and the # is any text.
func ExampleMatchesPattern() {
	for _, topic := range []string{"orders", "orders.eu", "orders.eu.paid", "orders.eu_dead"} {
		fmt.Println(topic, backend.MatchesPattern("orders.*", topic), backend.MatchesPattern("orders.#", topic))
	}
	// Output:
	// orders false false
	// orders.eu true true
	// orders.eu.paid false true
	// orders.eu_dead false false
}
