package ezq_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// attach has a Watermill router run router, within middleware, until the test ends.
func attach(t *testing.T, router *ezq.Router, middleware ...message.HandlerMiddleware) (w *message.Router, ended <-chan struct{}) {
	t.Helper()
	w = watermillRouter(t)
	w.AddMiddleware(middleware...)
	require.NoError(t, router.Attach(w))
	over := make(chan struct{})
	go func() {
		defer close(over)
		assert(t, w.Run(context.Background()) == nil)
	}()
	<-w.Running()
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error("closing the Watermill router:", err)
		}
		if !closedInTime(over) {
			t.Error("the Watermill router does not end")
		}
	})
	return w, over
}

func TestAttach_KeepsKeyOrder(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{})
	const n = 1000
	var mu sync.Mutex
	var order []int
	done := make(chan struct{})
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		mu.Lock()
		defer mu.Unlock()
		if order = append(order, e.ID); len(order) == n {
			close(done)
		}
		return nil
	})
	for i := range n {
		publishKeyed(t, broker, "a", i)
	}
	attach(t, router)
	within(t, done, "all are handled")
	require.IsIncreasing(t, order)
}

func TestAttach_EndEventOvertakesNothing(t *testing.T) {
	t.Parallel()
	for range 50 {
		broker := memory.New(&memory.Config{Logger: quiet()})
		router := newRouter(broker, ezq.Config{Concurrency: 20})
		var handled atomic.Int32
		ezq.Handle(router, func(context.Context, orderPlaced) error { handled.Add(1); return nil })
		for i := range 8 {
			publish(t, broker, orderPlaced{i})
		}
		publish(t, broker, ezq.EndEvent{})
		publish(t, broker, orderPlaced{99})
		_, ended := attach(t, router)
		within(t, ended, "the EndEvent ends the only handler")
		require.EqualValues(t, 8, handled.Load())
	}
}

func TestAttach_PausedTopicHoardsNothing(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: 2})
	var handled, others atomic.Int32
	ezq.Handle(router, func(context.Context, orderPlaced) error { handled.Add(1); return nil })
	require.NoError(t, router.Pause("ezq"))
	attach(t, router)
	const n = 1000
	for i := range n {
		publish(t, broker, orderPlaced{i})
	}
	other := newRouter(broker, ezq.Config{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	ezq.Handle(other, func(context.Context, orderPlaced) error {
		if others.Add(1) == n {
			close(done)
		}
		return nil
	})
	ended := make(chan error)
	go func() { ended <- other.Run(ctx) }()
	within(t, done, "a router that is not paused gets all")
	require.Zero(t, router.Stats()["ezq"].Claimed)
	stop()
	require.NoError(t, <-ended)

	publish(t, broker, orderPlaced{n})
	require.NoError(t, router.Resume("ezq"))
	require.Eventually(t, func() bool { return handled.Load() == 1 }, 20*time.Second, time.Millisecond)
	require.NoError(t, router.Pause("ezq"), "once more, now that it has subscribed")
	events, err := broker.Subscribe(t.Context(), "ezq")
	require.NoError(t, err)
	publish(t, broker, orderPlaced{n + 1})
	(<-events).Ack()
	require.EqualValues(t, 1, handled.Load())
}

func TestAttach_BusyKeyNeverStallsOthers(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: 4})
	const same, others = 41, 20 // one is handled, and as many wait as may
	gate, done := make(chan struct{}), make(chan struct{})
	var handled atomic.Int32
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		if e.ID < same {
			<-gate
		}
		if handled.Add(1) == same+others {
			close(done)
		}
		return nil
	})
	attach(t, router)
	for i := range same {
		publishKeyed(t, broker, "a", i)
	}
	require.Eventually(t, func() bool { return router.Stats()["ezq"].InFlight == same }, 20*time.Second, time.Millisecond)
	for i := range others {
		publish(t, broker, orderPlaced{same + i})
	}
	close(gate)
	within(t, done, "all are handled")
}
