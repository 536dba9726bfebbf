package ezq_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// A service that a deployment can stop. The first signal lets handlers finish; a second
// one ends the process, as if the program did not listen for it.
func ExampleRouter_Run() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore)

	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{DrainTimeout: 20 * time.Second, Logger: quiet()})
	ezq.Handle(router, func(context.Context, UserCreated) error {
		self, err := os.FindProcess(os.Getpid())
		return errors.Join(err, self.Signal(syscall.SIGTERM)) // as a deployment does
	})
	_ = ezq.Publish(ctx, broker, UserCreated{})
	fmt.Println(router.Run(ctx))
	fmt.Println(broker.Close())
	// Output:
	// <nil>
	// <nil>
}

// The end of a batch: what was queued before is handled first, what comes later stays.
func ExampleEndEvent() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
	ezq.Handle(router, welcome)
	_ = ezq.PublishBatch(ctx, broker, []any{
		UserCreated{Email: "ada@example.com"},
		ezq.EndEvent{Timeout: time.Minute}, // for handlers that still run then
		UserCreated{Email: "grace@example.com"},
	})
	fmt.Println(router.Run(ctx))
	// Output:
	// welcome, ada@example.com
	// <nil>
}

// An InterruptEvent does not wait for handlers. Their events are released, and have not failed.
func ExampleInterruptEvent() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ UserCreated) error {
		_ = ezq.Publish(ctx, broker, ezq.InterruptEvent{})
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return ctx.Err()
	})
	_ = ezq.Publish(ctx, broker, UserCreated{})
	err := router.Run(ctx)
	fmt.Println(errors.Is(err, ezq.ErrInterrupted), router.Stats()["ezq"].Failed)
	// Output:
	// ezq: interrupted
	// true 0
}

// A handler that takes long finishes early when its router stops.
func ExampleStoppingFromContext() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ UserCreated) error {
		for page := 1; ; page++ {
			select {
			case <-ezq.StoppingFromContext(ctx):
				fmt.Println("stopped after page", page-1, "with a context that lives:", ctx.Err() == nil)
				return ezq.Publish(ctx, broker, UserCreated{Email: "go on with the next page"})
			default:
			}
			if page == 3 {
				stop()
			}
		}
	})
	_ = ezq.Publish(ctx, broker, UserCreated{})
	fmt.Println(router.Run(ctx))
	// Output:
	// stopped after page 3 with a context that lives: true
	// <nil>
}

// A handler that looks at its context is interrupted when it takes too long; one that
// does not would be named in the error.
func ExampleStopError() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{DrainTimeout: time.Millisecond, Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ UserCreated) error {
		stop()
		<-ctx.Done()
		return ctx.Err()
	})
	_ = ezq.Publish(ctx, broker, UserCreated{})
	err := router.Run(ctx)
	stopped, ok := errors.AsType[*ezq.StopError](err)
	fmt.Println(ok, errors.Is(err, ezq.ErrDrainTimeout), len(stopped.Running))
	fmt.Println(err)
	// Output:
	// true true 0
	// ezq: handlers did not finish in time
}

// Ready is for the endpoint that a deployment asks whether the service is ready.
func ExampleRouter_Ready() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ UserCreated) error {
		fmt.Println(router.Ready())
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})
	_ = ezq.Publish(ctx, broker, UserCreated{})
	fmt.Println(router.Ready())
	_ = router.Run(ctx)
	fmt.Println(router.Ready())
	// Output:
	// ezq: the router has not been started
	// <nil>
	// ezq: the router has stopped
}
