package memory_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// A message stays in the queue until it is acked.
func ExampleQueue() {
	queue := memory.New()
	messages, _ := queue.Subscribe(context.Background(), "greetings")
	_ = queue.Publish("greetings", message.NewMessage("1", []byte("hello")))

	first := <-messages
	first.Nack()
	second := <-messages
	fmt.Println(string(second.Payload), "again, at delivery", backend.DeliveryFrom(second.Context()).Number)
	second.Ack()
	fmt.Println(queue.Close())
	// Output:
	// hello again, at delivery 2
	// <nil>
}

// In order: one message at a time.
func ExampleNewWith() {
	queue := memory.NewWith(memory.Config{MaxInFlight: 1, NackDelay: time.Millisecond})
	messages, _ := queue.Subscribe(context.Background(), "steps")
	_ = queue.Publish("steps", message.NewMessage("1", nil), message.NewMessage("2", nil))
	for range 2 {
		msg := <-messages
		fmt.Println("step", msg.UUID)
		msg.Ack()
	}
	fmt.Println(queue.Close())
	// Output:
	// step 1
	// step 2
	// <nil>
}

// Two consumers of one topic share its messages, as two processes do on PGMQ.
func ExampleQueue_Beside() {
	here := memory.New()
	there := here.Beside(memory.Config{})
	messages, _ := there.Subscribe(context.Background(), "t")
	_ = here.Publish("t", message.NewMessage("1", nil))
	msg := <-messages
	fmt.Println("there:", msg.UUID, msg.Ack())
	fmt.Println(there.Close(), here.Close())
	// Output:
	// there: 1 true
	// <nil> <nil>
}
