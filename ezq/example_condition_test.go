package ezq_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type SyncRequested struct{ Customer int }

// A publish that is repeated, because its outcome was unknown, stores its event once.
func ExampleID() {
	ctx, broker := context.Background(), memory.New(nil)
	defer func() { _ = broker.Close() }()

	for range 2 {
		var result ezq.PublishResult
		err := ezq.Publish(ctx, broker, InvoicePaid{Number: 7}, ezq.ID("invoice-7-paid"), ezq.ResultTo(&result))
		fmt.Println(result.ID, result.Stored, err)
	}
	// Output:
	// invoice-7-paid true <nil>
	// invoice-7-paid false <nil>
}

func ExampleIDs() {
	ctx, broker := context.Background(), memory.New(nil)
	defer func() { _ = broker.Close() }()

	paid := []InvoicePaid{{Number: 7}, {Number: 8}}
	err := ezq.PublishBatch(ctx, broker, paid, ezq.IDs("invoice-7-paid", "invoice-8-paid"))
	fmt.Println(err)
	// Output: <nil>
}

// While one request of a customer waits or is being handled, further ones are not stored.
func ExampleUnique() {
	ctx, broker := context.Background(), memory.New(nil)
	defer func() { _ = broker.Close() }()

	var first, second ezq.PublishResult
	_ = ezq.Publish(ctx, broker, SyncRequested{Customer: 7}, ezq.Unique("customer-7"), ezq.ResultTo(&first))
	_ = ezq.Publish(ctx, broker, SyncRequested{Customer: 7}, ezq.Unique("customer-7"), ezq.ResultTo(&second))
	fmt.Println(first.Stored, second.Stored, second.ID == first.ID)
	// Output: true false true
}

// The last event wins. It is delivered in ten minutes, as the first one would have been.
func ExampleReplace() {
	ctx, broker := context.Background(), memory.New(nil)
	defer func() { _ = broker.Close() }()

	for amount := range 3 {
		var result ezq.PublishResult
		_ = ezq.Publish(ctx, broker, InvoicePaid{Number: 7, Amount: fmt.Sprint(amount)},
			ezq.Delay(10*time.Minute), ezq.Replace("invoice-7"), ezq.ResultTo(&result))
		fmt.Println(result.Stored, result.Replaced != "")
	}
	// Output:
	// true false
	// true true
	// true true
}

// A sync begins five seconds after the last change, and a minute after the first one at the latest.
func ExampleDebounce() {
	ctx, broker := context.Background(), memory.New(nil)
	defer func() { _ = broker.Close() }()

	for range 3 {
		err := ezq.Publish(ctx, broker, SyncRequested{Customer: 7}, ezq.Delay(5*time.Second), ezq.Debounce("customer-7", time.Minute))
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// <nil>
	// <nil>
}

// The ID of an event comes back from every publish.
func ExampleResultTo() {
	ctx, broker := context.Background(), memory.New(nil)
	defer func() { _ = broker.Close() }()

	var result ezq.PublishResult
	err := ezq.Publish(ctx, broker, InvoicePaid{Number: 7}, ezq.ResultTo(&result))
	fmt.Println(len(result.ID), result.Stored, err)
	// Output: 36 true <nil>
}
