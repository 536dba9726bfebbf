package ezq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// afterSecond is a middleware in which the first order waits for the second one.
func afterSecond(second <-chan struct{}, seen func(error)) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if string(msg.Payload) != `{"_type":"OrderPlaced","ID":1}` {
				return next(msg)
			}
			err := ezq.StepAside(msg.Context(), func() error {
				select {
				case <-second:
					return nil
				case <-msg.Context().Done():
					return context.Cause(msg.Context())
				}
			})
			if seen != nil {
				seen(err)
			}
			if err != nil {
				return nil, err
			}
			return next(msg)
		}
	}
}

func ExampleStepAside() {
	ctx := context.Background()
	queue := memory.New()
	second := make(chan struct{})
	router := ezq.NewRouter(queue, ezq.Config{Concurrency: 1, Logger: quiet()}) // and yet there is room
	router.Use(afterSecond(second, nil))
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		fmt.Println("order", e.ID)
		if e.ID == 2 {
			close(second)
		}
		return nil
	})
	_ = ezq.PublishBatch(ctx, queue, []any{orderPlaced{1}, orderPlaced{2}, ezq.EndEvent{}})
	fmt.Println(router.Run(ctx))
	// Output:
	// order 2
	// order 1
	// <nil>
}

func TestWhatHasSteppedAsideGoesBackWhenTheRouterStops(t *testing.T) {
	bubble(t, func(t *testing.T, queue *memory.Queue) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(queue, ezq.Config{Concurrency: 1})
		second := make(chan struct{})
		var got error
		router.Use(afterSecond(second, func(err error) { got = err }))
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			stop()
			close(second)
			time.Sleep(time.Second)
			return nil
		})
		publish(t, queue, orderPlaced{1}, orderPlaced{2})
		require.NoError(t, router.Run(ctx))
		require.ErrorIs(t, got, ezq.ErrInterrupted)
		rest := left(t, queue)
		require.Len(t, rest, 1)
		require.Zero(t, rest[0].Failures, "to wait is not to fail")
		require.NoError(t, ezq.StepAside(t.Context(), func() error { return nil }), "it does nothing outside of a router")
	})
}
