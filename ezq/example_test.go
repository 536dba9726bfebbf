package ezq_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type UserCreated struct{ Email string }

func welcome(_ context.Context, e UserCreated) error {
	fmt.Println("welcome,", e.Email)
	return nil
}

func Example() {
	ctx := context.Background()
	broker := memory.New(nil) // or: client, err := pgmq.Open(ctx, databaseURL, nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, welcome)

	_ = ezq.Publish(ctx, broker, UserCreated{Email: "ada@example.com"})
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	fmt.Println(router.Run(ctx))
	// Output:
	// welcome, ada@example.com
	// <nil>
}

// A topic is a queue of its own, for events and handlers that name it.
func ExampleTopic() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, welcome, ezq.Topic("users"))

	_ = ezq.Publish(ctx, broker, UserCreated{Email: "ada@example.com"}, ezq.Topic("users"))
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{}, ezq.Topic("users"))
	_ = router.Run(ctx)
	// Output: welcome, ada@example.com
}

// Headers travel beside the event.
func ExampleHeader() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ UserCreated) error {
		fmt.Println("tenant", ezq.MetaFromContext(ctx).Headers["tenant"])
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})
	_ = ezq.Publish(ctx, broker, UserCreated{}, ezq.Header("tenant", "acme"))
	_ = router.Run(ctx)
	// Output: tenant acme
}

// The type was renamed from SignedUp; events of that name may still be queued.
func ExampleAlias() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet(), Concurrency: 1})
	ezq.Handle(router, welcome, ezq.Alias("SignedUp"))

	old := message.NewMessage("1", []byte(`{"_type":"SignedUp","Email":"ada@example.com"}`))
	_ = broker.Publish(ezq.DefaultTopic, old)
	_ = ezq.Publish(ctx, broker, UserCreated{Email: "grace@example.com"})
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	_ = router.Run(ctx)
	// Output:
	// welcome, ada@example.com
	// welcome, grace@example.com
}

// logged is a middleware: it wraps what handles a message.
func logged(prefix string) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			fmt.Println(prefix, ezq.MetaFromContext(msg.Context()).Event)
			return next(msg)
		}
	}
}

// Router.Use is for all handlers of a router, the option Use for one of them.
func ExampleUse() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(logged("router:"))
	ezq.Handle(router, welcome, ezq.Use(logged("handler:")))

	_ = ezq.Publish(ctx, broker, UserCreated{Email: "ada@example.com"})
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	_ = router.Run(ctx)
	// Output:
	// router: UserCreated
	// handler: UserCreated
	// welcome, ada@example.com
}

// A router that shares a topic with programs that have a use for more events.
func ExampleRouter_Ignore() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, welcome)
	router.Ignore("ezq", "OrderPlaced")
	_ = ezq.PublishBatch(ctx, broker, []any{orderPlaced{7}, UserCreated{Email: "ada@example.com"}, ezq.EndEvent{}})
	fmt.Println(router.Run(ctx), router.Stats()["ezq"].Ignored)
	// Output:
	// welcome, ada@example.com
	// <nil> 1
}

// A service that asks to be called later is no failure.
func ExampleSnooze() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	busy := true
	ezq.Handle(router, func(ctx context.Context, e UserCreated) error {
		if busy {
			busy = false
			_ = ezq.Publish(ctx, broker, ezq.EndEvent{}, ezq.Delay(50*time.Millisecond))
			return fmt.Errorf("too many requests: %w", ezq.Snooze(time.Millisecond))
		}
		fmt.Println(e.Email, "failures:", ezq.MetaFromContext(ctx).Failures)
		return nil
	})
	_ = ezq.Publish(ctx, broker, UserCreated{Email: "ada@example.com"})
	fmt.Println(router.Run(ctx))
	// Output:
	// ada@example.com failures: 0
	// <nil>
}
