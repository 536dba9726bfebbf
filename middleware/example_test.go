package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

type InvoiceSent struct{ Number int }

type InvoicePaid struct{ Number int }

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(
		middleware.CorrelationID{}.Middleware,
		middleware.Retry{Attempts: 3, Delay: time.Millisecond}.Middleware,
		middleware.Poison{Logger: quiet()}.Middleware,
		middleware.Timeout{After: time.Second}.Middleware,
	)
	ezq.Handle(router, func(ctx context.Context, _ InvoicePaid) error {
		fmt.Println("attempt", ezq.MetaFromContext(ctx).Failures+1)
		return errors.New("the bank is closed")
	})
	ezq.Handle(router, func(context.Context, InvoicePaid) error { // what was dead-lettered
		fmt.Println("dead letter")
		stop()
		return nil
	}, ezq.Topic("ezq_dead"))

	_ = ezq.Publish(ctx, broker, InvoicePaid{Number: 7})
	_ = router.Run(ctx)
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// dead letter
}

func ExampleRetry() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(middleware.Retry{Delay: time.Millisecond}.Middleware)
	ezq.Handle(router, func(ctx context.Context, e InvoicePaid) error {
		if failures := ezq.MetaFromContext(ctx).Failures; failures < 2 {
			fmt.Println("failure", failures+1)
			return errors.New("the bank is closed")
		}
		fmt.Println("invoice", e.Number, "is paid")
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})
	_ = ezq.Publish(context.Background(), broker, InvoicePaid{Number: 7})
	_ = router.Run(context.Background())
	// Output:
	// failure 1
	// failure 2
	// invoice 7 is paid
}

// A policy of the handler takes the place of the router's.
func ExampleRetry_Middleware() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
	router.Use(middleware.Poison{Logger: quiet()}.Middleware, middleware.Retry{}.Middleware)
	ezq.Handle(router, func(context.Context, InvoicePaid) error {
		fmt.Println("tried once")
		return errors.New("the bank is closed")
	}, ezq.Use(middleware.Retry{Attempts: 1}.Middleware))
	_ = ezq.PublishBatch(context.Background(), broker, []any{InvoicePaid{Number: 7}, ezq.EndEvent{}})
	_ = router.Run(context.Background())
	// Output: tried once
}

func ExamplePoison() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
	router.Use(middleware.Poison{Logger: quiet()}.Middleware)
	ezq.Handle(router, func(context.Context, InvoicePaid) error {
		return ezq.Permanent(errors.New("no such invoice"))
	})
	_ = ezq.PublishBatch(ctx, broker, []any{InvoicePaid{Number: 7}, ezq.EndEvent{}})
	_ = router.Run(ctx)

	dead, _ := broker.Subscribe(ctx, "ezq_dead")
	deadLetter := <-dead
	deadLetter.Ack()
	fmt.Println(string(deadLetter.Payload))
	fmt.Println(deadLetter.Metadata[backend.DeadLetterReason])
	// Output:
	// {"_type":"InvoicePaid","Number":7}
	// no such invoice
}

// On a backend that cannot move a message in one step, in Watermill's own router.
func ExamplePoison_Middleware() {
	queue := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
	router, _ := message.NewRouter(message.RouterConfig{}, nil)
	router.AddMiddleware(
		middleware.Poison{To: queue, Logger: quiet()}.Middleware,
		middleware.Retry{Attempts: 2, Delay: time.Millisecond}.Middleware,
	)
	router.AddConsumerHandler("ledger", "invoices", queue, func(*message.Message) error {
		fmt.Println("handled")
		return errors.New("the bank is closed")
	})
	go func() { _ = router.Run(context.Background()) }()
	<-router.Running()

	_ = queue.Publish("invoices", message.NewMessage("1", nil))
	dead, _ := queue.Subscribe(context.Background(), "invoices_dead")
	deadLetter := <-dead
	deadLetter.Ack()
	fmt.Println(deadLetter.Metadata[backend.DeadLetterReason], "for", deadLetter.Metadata[backend.DeadLetterHandler])
	_ = router.Close()
	// Output:
	// handled
	// handled
	// the bank is closed for ledger
}

func ExampleTimeout() {
	handle := middleware.Timeout{After: time.Millisecond}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
		<-msg.Context().Done()
		return nil, msg.Context().Err()
	})
	_, err := handle(message.NewMessage("1", nil))
	fmt.Println(err)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// middleware: the handler took longer than 1ms: context deadline exceeded
	// true
}

func ExampleTimeout_Middleware() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ InvoicePaid) error {
		_, limited := ctx.Deadline()
		fmt.Println("has a deadline:", limited)
		return nil
	}, ezq.Use(middleware.Timeout{}.Middleware))
	_ = ezq.PublishBatch(context.Background(), broker, []any{InvoicePaid{Number: 7}, ezq.EndEvent{}})
	_ = router.Run(context.Background())
	// Output: has a deadline: true
}

func ExampleThrottle() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(middleware.Throttle{Count: 100, Per: time.Second}.Middleware)
	ezq.Handle(router, func(context.Context, InvoicePaid) error { return nil })
	_ = ezq.PublishBatch(context.Background(), broker, []any{InvoicePaid{1}, InvoicePaid{2}, InvoicePaid{3}, ezq.EndEvent{}})

	start := time.Now()
	_ = router.Run(context.Background())
	fmt.Println("at least 20ms:", time.Since(start) >= 20*time.Millisecond)
	// Output: at least 20ms: true
}

// Each handler may call the bank, and all of them together once in 10 milliseconds.
func ExampleThrottle_PerProcess() {
	broker := memory.New(nil)
	bank := middleware.Throttle{Per: 10 * time.Millisecond}.PerProcess()
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(context.Context, InvoiceSent) error { return nil }, ezq.Use(bank))
	ezq.Handle(router, func(context.Context, InvoicePaid) error { return nil }, ezq.Use(bank))
	_ = ezq.PublishBatch(context.Background(), broker, []any{InvoiceSent{1}, InvoicePaid{1}, ezq.EndEvent{}})

	start := time.Now()
	_ = router.Run(context.Background())
	fmt.Println("at least 10ms:", time.Since(start) >= 10*time.Millisecond)
	// Output: at least 10ms: true
}

func ExampleThrottle_Middleware() {
	calls := 0
	handle := middleware.Throttle{Per: time.Hour, Burst: 2}.Middleware(func(*message.Message) ([]*message.Message, error) {
		calls++
		return nil, nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	for range 3 {
		_, err := handle(message.NewMessageWithContext(ctx, "1", nil))
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// <nil>
	// context deadline exceeded
}

func ExampleDeduplicate() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
	router.Use(middleware.Deduplicate{Logger: quiet()}.Middleware)
	ezq.Handle(router, func(_ context.Context, e InvoicePaid) error {
		fmt.Println("invoice", e.Number)
		return nil
	})
	for _, id := range []string{"a", "a", "b"} { // the publisher was not sure about the first
		_ = broker.Publish("ezq", message.NewMessage(id, []byte(`{"_type":"InvoicePaid","Number":7}`)))
	}
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{})
	_ = router.Run(ctx)
	// Output:
	// invoice 7
	// invoice 7
}

// What makes two events the same may also be something in them.
func ExampleDeduplicate_Middleware() {
	handle := middleware.Deduplicate{
		Handler: "ledger",
		Window:  time.Hour,
		Key:     func(msg *message.Message) (string, error) { return msg.Metadata.Get("invoice"), nil },
		Logger:  quiet(),
	}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
		fmt.Println("invoice", msg.Metadata.Get("invoice"))
		return nil, nil
	})
	for i, invoice := range []string{"7", "7", "8"} {
		msg := message.NewMessage(fmt.Sprint(i), nil)
		msg.Metadata.Set("invoice", invoice)
		_, _ = handle(msg)
	}
	// Output:
	// invoice 7
	// invoice 8
}

// One store for all handlers: it keeps them apart.
func ExampleMemoryStore() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(middleware.Deduplicate{Store: middleware.NewMemoryStore(1_000_000), Window: time.Hour, Logger: quiet()}.Middleware)
	ezq.Handle(router, func(context.Context, InvoicePaid) error {
		fmt.Println("paid")
		return ezq.Publish(context.Background(), broker, ezq.EndEvent{})
	})
	_ = ezq.Publish(context.Background(), broker, InvoicePaid{Number: 7})
	_ = router.Run(context.Background())
	// Output: paid
}

// countingStore is a store of one's own.
type countingStore struct{ *middleware.MemoryStore }

func (s countingStore) Mark(ctx context.Context, key string, window time.Duration) error {
	fmt.Println("remembers", key, "for", window)
	return s.MemoryStore.Mark(ctx, key, window)
}

func ExampleStore() {
	handle := middleware.Deduplicate{Store: countingStore{middleware.NewMemoryStore(0)}, Handler: "ledger"}.Middleware(
		func(*message.Message) ([]*message.Message, error) { return nil, nil })
	_, _ = handle(message.NewMessage("1", nil))
	// Output: remembers "ledger" "" 1 for 24h0m0s
}

func ExampleNewMemoryStore() {
	ctx := context.Background()
	store := middleware.NewMemoryStore(2)
	for _, key := range []string{"a", "b", "c"} {
		_ = store.Mark(ctx, key, time.Hour)
	}
	oldest, _ := store.Seen(ctx, "a")
	newest, _ := store.Seen(ctx, "c")
	fmt.Println("oldest:", oldest, "newest:", newest)
	// Output: oldest: false newest: true
}

// What the program calls a chain of events goes along with them.
func ExampleCorrelationID() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(middleware.CorrelationID{New: func(*message.Message) string { return "request 42" }}.Middleware)
	ezq.Handle(router, func(ctx context.Context, e InvoiceSent) error {
		return ezq.Publish(ctx, broker, InvoicePaid(e))
	})
	ezq.Handle(router, func(ctx context.Context, _ InvoicePaid) error {
		fmt.Println(ezq.CorrelationIDFromContext(ctx))
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})
	_ = ezq.Publish(ctx, broker, InvoiceSent{Number: 7})
	_ = router.Run(ctx)
	// Output: request 42
}

func ExampleCorrelationID_Middleware() {
	handle := middleware.CorrelationID{}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
		fmt.Println(ezq.CorrelationIDFromContext(msg.Context()))
		return []*message.Message{message.NewMessage("2", nil)}, nil
	})
	out, _ := handle(message.NewMessage("1", nil))
	fmt.Println(out[0].Metadata.Get("correlation_id"))
	// Output:
	// 1
	// 1
}
