package ezq_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type InvoicePaid struct {
	Number int
	Amount string `json:"amount"`
}

// Renamed in Go, the event keeps the name that is in the queues.
type CustomerLeft struct{ Email string }

func (CustomerLeft) EventName() string { return "UserDeleted" }

// console is a publisher that prints what it is given.
type console struct{}

func (console) Publish(topic string, msgs ...*message.Message) error {
	for _, msg := range msgs {
		fmt.Printf("%s %s\n", topic, msg.Payload)
	}
	return nil
}

func (console) Close() error { return nil }

func ExamplePublish() {
	ctx := context.Background()
	var queue console // or any backend, or any Watermill Publisher

	_ = ezq.Publish(ctx, queue, InvoicePaid{Number: 7, Amount: "9.99"})
	_ = ezq.Publish(ctx, queue, CustomerLeft{Email: "ada@example.com"}, ezq.Topic("crm"), ezq.Header("tenant", "acme"))
	// Output:
	// ezq {"_type":"InvoicePaid","Number":7,"amount":"9.99"}
	// crm {"_type":"UserDeleted","Email":"ada@example.com"}
}

func ExamplePublishBatch() {
	ctx := context.Background()
	var queue console

	paid := []InvoicePaid{{Number: 7, Amount: "9.99"}, {Number: 8, Amount: "0.01"}}
	_ = ezq.PublishBatch(ctx, queue, paid)

	mixed := []any{InvoicePaid{Number: 9}, ezq.EndEvent{Timeout: time.Minute}}
	_ = ezq.PublishBatch(ctx, queue, mixed, ezq.Topic("nightly"))
	// Output:
	// ezq {"_type":"InvoicePaid","Number":7,"amount":"9.99"}
	// ezq {"_type":"InvoicePaid","Number":8,"amount":"0.01"}
	// nightly {"_type":"InvoicePaid","Number":9,"amount":""}
	// nightly {"_type":"EZQEndEvent","timeout":60.0}
}

func ExampleEventName() {
	fmt.Println(ezq.EventName[InvoicePaid]())
	fmt.Println(ezq.EventName[*CustomerLeft]())
	// Output:
	// InvoicePaid
	// UserDeleted
}

func ExampleDelay() {
	ctx := context.Background()
	reminder := InvoicePaid{Number: 7}
	fmt.Println(ezq.Publish(ctx, memory.New(nil), reminder, ezq.Delay(24*time.Hour)))

	// Watermill's in-memory Pub/Sub cannot delay, so nothing is sent.
	other := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	err := ezq.Publish(ctx, other, reminder, ezq.Delay(24*time.Hour))
	fmt.Println(errors.Is(err, errors.ErrUnsupported))
	// Output:
	// <nil>
	// true
}

func ExampleAt() {
	newYear := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	err := ezq.Publish(context.Background(), memory.New(nil), InvoicePaid{Number: 7}, ezq.At(newYear))
	fmt.Println(err)
	// Output: <nil>
}

func ExamplePermanent() {
	charge := func(_ context.Context, e InvoicePaid) error {
		if e.Number <= 0 {
			return ezq.Permanent(fmt.Errorf("no invoice has the number %d", e.Number))
		}
		return nil
	}
	err := charge(context.Background(), InvoicePaid{Number: -1})
	fmt.Println(err, ezq.IsPermanent(err))
	// Output: no invoice has the number -1 true
}

func ExampleRetryAfter() {
	errQuota := errors.New("out of quota")
	charge := func(context.Context, InvoicePaid) error {
		return ezq.RetryAfter(time.Minute, errQuota)
	}
	err := charge(context.Background(), InvoicePaid{})
	d, _ := ezq.RetryDelay(err)
	fmt.Println(err, d)
	// Output: out of quota 1m0s
}
