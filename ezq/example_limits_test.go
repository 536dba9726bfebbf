package ezq_test

import (
	"context"
	"fmt"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// At most two orders are handled at a time, while other events of the topic go on.
func ExampleConcurrency() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{
		Concurrency: 20,                                                   // for the whole topic,
		Topics:      map[string]ezq.TopicConfig{"mail": {Concurrency: 5}}, // and for another one
		Logger:      quiet(),
	})
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil }, ezq.Concurrency(2))
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil }, ezq.Topic("mail"))

	_ = ezq.Publish(context.Background(), broker, ezq.EndEvent{})
	fmt.Println(router.Run(context.Background()))
	// Output: <nil>
}

// The events of one order are handled one after the other, those of different
// orders beside each other.
func ExampleKey() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		fmt.Println("order", e.ID)
		return nil
	})
	for _, id := range []int{1, 2, 3} {
		_ = ezq.Publish(ctx, broker, orderPlaced{ID: id}, ezq.Key("customer 7"))
	}
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	fmt.Println(router.Run(ctx))
	// Output:
	// order 1
	// order 2
	// order 3
	// <nil>
}

// A paused topic can be resumed at any time, for example by what watches the
// service that the handlers call.
func ExampleRouter_Pause() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		fmt.Println("order", e.ID)
		return nil
	})
	_ = router.Pause(ezq.DefaultTopic)
	_ = ezq.Publish(ctx, broker, orderPlaced{ID: 1})
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	go func() {
		fmt.Println("resumed")
		_ = router.Resume(ezq.DefaultTopic)
	}()
	fmt.Println(router.Run(ctx))
	// Output:
	// resumed
	// order 1
	// <nil>
}
