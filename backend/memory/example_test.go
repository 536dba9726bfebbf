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
func ExampleBroker() {
	broker := memory.New(nil)
	messages, _ := broker.Subscribe(context.Background(), "greetings")
	_ = broker.Publish("greetings", message.NewMessage("1", []byte("hello")))

	first := <-messages
	first.Nack()
	second := <-messages
	fmt.Println(string(second.Payload), "again, at delivery", backend.DeliveryFromContext(second.Context()).Number)
	second.Ack()
	fmt.Println(broker.Close())
	// Output:
	// hello again, at delivery 2
	// <nil>
}

// In order: one message at a time.
func ExampleNew_config() {
	broker := memory.New(&memory.Config{MaxInFlight: 1, NackDelay: time.Millisecond})
	messages, _ := broker.Subscribe(context.Background(), "steps")
	_ = broker.Publish("steps", message.NewMessage("1", nil), message.NewMessage("2", nil))
	for range 2 {
		msg := <-messages
		fmt.Println("step", msg.UUID)
		msg.Ack()
	}
	fmt.Println(broker.Close())
	// Output:
	// step 1
	// step 2
	// <nil>
}

// Dead letters are counted, one is corrected, and goes back to its topic.
func ExampleBroker_EditDeadLetter() {
	ctx := context.Background()
	broker := memory.New(nil)
	for _, amount := range []string{`{"amount":"7"}`, `{"amount":"8"}`} {
		dead := message.NewMessage("order "+amount, []byte(amount))
		dead.Metadata = backend.DeadLetterMetadata("orders", "charge", 5, fmt.Errorf("%s is no number", amount))
		_ = broker.Publish("orders_dead", dead) // a Poison does so
	}

	counts, _ := broker.CountDeadLetters(ctx, "orders_dead", backend.DeadLetterSelection{})
	for _, count := range counts {
		fmt.Println(count.Letters, count.Handler, count.Reason)
	}
	s := backend.DeadLetterSelection{Reason: counts[0].Reason, Limit: 1}
	letters, _ := broker.DeadLetters(ctx, "orders_dead", s)
	fmt.Println(broker.EditDeadLetter(ctx, "orders_dead", backend.DeadLetterEdit{
		Row: letters[0].Row, Version: letters[0].Version(), Payload: []byte(`{"amount":7}`), By: "ada",
	}))
	done, err := broker.Redrive(ctx, "orders_dead", s)
	fmt.Println(done.Moved, done.Busy, err)

	messages, _ := broker.Subscribe(ctx, "orders")
	msg := <-messages
	fmt.Println(string(msg.Payload), "edited by", msg.Metadata[backend.EditedBy])
	msg.Ack()
	fmt.Println(broker.Close())
	// Output:
	// 2 charge {"amount":"#"} is no number
	// <nil>
	// 1 0 <nil>
	// {"amount":7} edited by ada
	// <nil>
}

// A message is found by what it says, and stays where it is.
func ExampleBroker_Find() {
	ctx := context.Background()
	broker := memory.New(nil)
	msg := message.NewMessage("1", []byte(`{"to":{"name":"Ada","age":36}}`))
	msg.Metadata.Set("tenant", "a")
	backend.SetDelay(msg, time.Hour)
	_ = broker.Publish("greetings", msg)

	for _, s := range []backend.Selection{{Header: "tenant", Value: "a"}, {Field: "to.age", Equals: 36}, {Field: "to.age", Equals: "36"}} {
		found, err := broker.Find(ctx, "greetings", s)
		fmt.Println(len(found), err)
		for _, f := range found {
			fmt.Println(f.ID, f.State, string(f.Payload))
		}
	}
	fmt.Println(broker.Close())
	// Output:
	// 1 <nil>
	// 1 delayed {"to":{"name":"Ada","age":36}}
	// 1 <nil>
	// 1 delayed {"to":{"name":"Ada","age":36}}
	// 0 <nil>
	// <nil>
}

// A message that waits is cancelled by its key, which is free then.
func ExampleBroker_Cancel() {
	ctx := context.Background()
	broker := memory.New(nil)
	ctx = backend.WithPublishCondition(ctx, &backend.PublishCondition{UniqueKey: "reminder 7"})
	msg := message.NewMessageWithContext(ctx, "1", []byte("pay"))
	backend.SetDelay(msg, time.Hour)
	_ = broker.Publish("reminders", msg)

	cancelled, err := broker.Cancel(ctx, "reminders", backend.Selection{UniqueKey: "reminder 7"})
	fmt.Println(cancelled.Removed, cancelled.Busy, err)
	fmt.Println(broker.Close())
	// Output:
	// 1 0 <nil>
	// <nil>
}

// A message that is delayed is due when it is rescheduled to now.
func ExampleBroker_Reschedule() {
	ctx := context.Background()
	broker := memory.New(nil)
	messages, _ := broker.Subscribe(ctx, "reminders")
	msg := message.NewMessage("1", []byte("pay"))
	backend.SetDelay(msg, time.Hour)
	_ = broker.Publish("reminders", msg)

	rescheduled, err := broker.Reschedule(ctx, "reminders", backend.Selection{ID: "1"}, time.Now())
	fmt.Println(rescheduled.Moved, rescheduled.Busy, err)
	due := <-messages
	fmt.Println(string(due.Payload), due.Ack())
	fmt.Println(broker.Close())
	// Output:
	// 1 0 <nil>
	// pay true
	// <nil>
}

// While a topic is paused, its messages wait.
func ExampleBroker_Pause() {
	ctx := context.Background()
	broker := memory.New(nil)
	messages, _ := broker.Subscribe(ctx, "mails")
	paused, err := broker.Pause(ctx, "mails", backend.Pause{By: "ada", Reason: "the mail server is down"})
	fmt.Println("paused by", paused.By, err)

	_ = broker.Publish("mails", message.NewMessage("1", nil)) // and nothing comes, until
	fmt.Println(broker.Resume(ctx, "mails"))
	msg := <-messages
	fmt.Println(msg.UUID, msg.Ack(), broker.Close())
	// Output:
	// paused by ada <nil>
	// true <nil>
	// 1 true <nil>
}

// Two consumers of one topic share its messages, as two processes do on PGMQ.
func ExampleBroker_Connect() {
	here := memory.New(nil)
	there := here.Connect(nil)
	messages, _ := there.Subscribe(context.Background(), "t")
	_ = here.Publish("t", message.NewMessage("1", nil))
	msg := <-messages
	fmt.Println("there:", msg.UUID, msg.Ack())
	fmt.Println(there.Close(), here.Close())
	// Output:
	// there: 1 true
	// <nil> <nil>
}
