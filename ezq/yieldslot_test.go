package ezq_test

import (
	"context"
	"fmt"
	"sync/atomic"
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
			err := ezq.YieldSlot(msg.Context(), func() error {
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

func ExampleYieldSlot() {
	ctx := context.Background()
	broker := memory.New(nil)
	second := make(chan struct{})
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()}) // and yet both orders run
	router.Use(afterSecond(second, nil))
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		fmt.Println("order", e.ID)
		if e.ID == 2 {
			close(second)
		}
		return nil
	})
	_ = ezq.PublishBatch(ctx, broker, []any{orderPlaced{1}, orderPlaced{2}, ezq.EndEvent{}})
	fmt.Println(router.Run(ctx))
	// Output:
	// order 2
	// order 1
	// <nil>
}

// yieldAfterSecond is a middleware that works for a second, and yields its slot until so
// many minutes after start as it has seen events.
func yieldAfterSecond(start time.Time) message.HandlerMiddleware {
	var seen atomic.Int64
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			until := start.Add(time.Duration(seen.Add(1)) * time.Minute)
			time.Sleep(time.Second)
			err := ezq.YieldSlot(msg.Context(), func() error { time.Sleep(time.Until(until)); return nil })
			if err != nil {
				return nil, err
			}
			return next(msg)
		}
	}
}

func TestYieldSlot_ResumesFetchingBelowTenWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		var mails, orders gauge
		start := time.Now()
		ezq.Handle(router, func(context.Context, mailDue) error { mails.during(0); return nil }, ezq.Use(yieldAfterSecond(start)))
		ezq.Handle(router, func(context.Context, orderPlaced) error { orders.during(0); return nil })
		for i := range 11 { // the last one has its slot before the tenth waits
			publish(t, broker, mailDue{i})
		}
		publish(t, broker, orderPlaced{1})
		runFor(t, router, time.Hour)
		require.Equal(t, 2*time.Minute, orders.lastAfter(start))
		require.EqualValues(t, 11, mails.total.Load())
	})
}

func TestYieldSlot_ReleasesEventWhenRouterStops(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		second := make(chan struct{})
		var got error
		router.Use(afterSecond(second, func(err error) { got = err }))
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			stop()
			close(second)
			time.Sleep(time.Second)
			return nil
		})
		publish(t, broker, orderPlaced{1}, orderPlaced{2})
		require.NoError(t, router.Run(ctx))
		require.ErrorIs(t, got, ezq.ErrInterrupted)
		rest := remaining(t, broker)
		require.Len(t, rest, 1)
		require.Zero(t, rest[0].Failures, "to wait is not to fail")
		require.NoError(t, ezq.YieldSlot(t.Context(), func() error { return nil }), "it does nothing outside of a router")
	})
}
