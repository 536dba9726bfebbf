package ezq_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// batches records the batches that a handler gets.
type batches struct {
	mu  sync.Mutex
	all [][]int
}

func (b *batches) add(events []orderPlaced) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []int
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	b.all = append(b.all, ids)
}

func (b *batches) sizes() (sizes []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ids := range b.all {
		sizes = append(sizes, len(ids))
	}
	return sizes
}

func publishOrders(t *testing.T, queue message.Publisher, n int) {
	t.Helper()
	events := make([]orderPlaced, n)
	for i := range events {
		events[i].ID = i
	}
	require.NoError(t, ezq.PublishBatch(t.Context(), queue, events))
}

func TestBatch_IsHandledWhenFullOrLingered(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		var got batches
		start := time.Now()
		var last time.Duration
		ezq.HandleBatch(router, func(ctx context.Context, events []orderPlaced) error {
			assert(t, len(ezq.MetasFromContext(ctx)) == len(events) && ezq.MetasFromContext(ctx)[0].ID != "")
			assert(t, ezq.MetaFromContext(ctx).ID == "" && ezq.MetaFromContext(ctx).Handler == "OrderPlaced")
			got.add(events)
			last = time.Since(start)
			return nil
		}, ezq.Size(1000), ezq.Linger(time.Minute))
		publishOrders(t, broker, 2300)
		runFor(t, router, time.Hour)
		require.Equal(t, []int{1000, 1000, 300}, got.sizes(), "although only one may be handled at a time")
		require.Equal(t, time.Minute, last)
		require.Empty(t, remaining(t, broker))
	})
}

func TestBatch_IsFullAtHundredByDefault(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var got batches
		ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error { got.add(events); return nil })
		publishOrders(t, broker, 250)
		runFor(t, router, time.Hour)
		require.Equal(t, []int{100, 100, 50}, got.sizes())
	})
}

func TestBatch_WithoutLingerDoesNotWait(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		start := time.Now()
		var took time.Duration
		ezq.HandleBatch(router, func(context.Context, []orderPlaced) error { took = time.Since(start); return nil }, ezq.Linger(0))
		publishOrders(t, broker, 3)
		runFor(t, router, time.Hour)
		require.Zero(t, took)
		require.Empty(t, remaining(t, broker))
	})
}

func TestBatch_ResultDecidesOutcomeOfEvents(t *testing.T) {
	for _, test := range []struct {
		name    string
		returns func() error
		again   []int // the ids of the next batch
	}{
		{"nil completes all events", func() error { return nil }, nil},
		{"an empty BatchError fails none", func() error { return ezq.BatchError{} }, nil},
		{"a BatchError fails those that it names", func() error { return ezq.BatchError{1: errBoom, 3: errBoom, 2: nil} }, []int{1, 3}},
		{"several BatchErrors fail those that they name", func() error {
			return errors.Join(ezq.BatchError{0: errBoom}, ezq.BatchError{1: nil}, ezq.BatchError{2: errBoom})
		}, []int{0, 2}},
		{"a wrapped BatchError fails those that it names", func() error { return fmt.Errorf("some: %w", ezq.BatchError{4: errBoom}) }, []int{4}},
		{"an error that is no BatchError fails all", func() error { return errBoom }, []int{0, 1, 2, 3, 4}},
		{"a BatchError joined with another error fails all", func() error { return errors.Join(ezq.BatchError{0: errBoom}, errBoom) }, []int{0, 1, 2, 3, 4}},
		{"a place that the batch does not have fails all", func() error { return ezq.BatchError{5: errBoom} }, []int{0, 1, 2, 3, 4}},
		{"a panic fails all", func() error { panic(errBoom) }, []int{0, 1, 2, 3, 4}},
		{"the end of the goroutine fails all", func() error { runtime.Goexit(); return nil }, []int{0, 1, 2, 3, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				var again []int
				ezq.HandleBatch(router, func(ctx context.Context, events []orderPlaced) error {
					slices.SortFunc(events, func(a, b orderPlaced) int { return a.ID - b.ID })
					if ezq.MetasFromContext(ctx)[0].Failures == 0 {
						return test.returns()
					}
					for i, e := range events {
						assert(t, ezq.MetasFromContext(ctx)[i].Failures == 1)
						again = append(again, e.ID)
					}
					return nil
				}, ezq.Size(5), ezq.Linger(time.Minute))
				// One after the other, so that the places are known.
				time.AfterFunc(0, func() {
					for i := range 5 {
						publish(t, broker, orderPlaced{i})
						time.Sleep(time.Second)
					}
				})
				runFor(t, router, time.Hour)
				require.Equal(t, test.again, again)
				require.Empty(t, remaining(t, broker))
			})
		})
	}
}

func TestBatchError_NamesFailedEvents(t *testing.T) {
	t.Parallel()
	err := ezq.BatchError{7: errBoom, 2: ezq.Permanent(errors.New("no"))}
	require.EqualError(t, err, "ezq: 2 of the batch failed; event 2: no; event 7: boom")
	require.ErrorIs(t, err, errBoom)
}

func TestBatch_ExcludesUndecodableEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var got batches
		ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
			got.add(events)
			return nil
		}, ezq.Size(2))
		require.NoError(t, broker.Publish("ezq", message.NewMessage("bad", []byte(`{"_type":"OrderPlaced","ID":"x"}`))))
		publishOrders(t, broker, 2)
		runFor(t, router, time.Second/2)
		require.Equal(t, []int{2}, got.sizes())
	})
}

func TestBatch_WhenPartialFollowsKindOfStop(t *testing.T) {
	for _, test := range []struct {
		name string
		stop func(t *testing.T, broker *memory.Broker, router *ezq.Router, cancel func())
		want []int
		left int
	}{
		{"a partial batch is handled at once after an EndEvent", func(t *testing.T, broker *memory.Broker, _ *ezq.Router, _ func()) {
			publish(t, broker, ezq.EndEvent{})
		}, []int{3}, 0},
		{"a partial batch is released when the context ends", func(_ *testing.T, _ *memory.Broker, _ *ezq.Router, cancel func()) { cancel() }, nil, 3},
		{"a partial batch is released when the topic is paused", func(_ *testing.T, _ *memory.Broker, router *ezq.Router, cancel func()) {
			_ = router.Pause("ezq")
			time.AfterFunc(time.Second, cancel)
		}, nil, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				ctx, cancel := context.WithCancel(t.Context())
				router := newRouter(broker, ezq.Config{})
				var got batches
				ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
					got.add(events)
					return nil
				}, ezq.Linger(time.Hour))
				publishOrders(t, broker, 3)
				start := time.Now()
				time.AfterFunc(time.Second, func() { test.stop(t, broker, router, cancel) })
				require.NoError(t, router.Run(ctx))
				require.Less(t, time.Since(start), 3*time.Second)
				require.Equal(t, test.want, got.sizes())
				rest := remaining(t, broker)
				require.Len(t, rest, test.left)
				for _, meta := range rest {
					require.Zero(t, meta.Failures)
				}
			})
		})
	}
}

func TestBatch_InterruptionIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{DrainTimeout: time.Second})
		ezq.HandleBatch(router, func(ctx context.Context, _ []orderPlaced) error {
			<-ctx.Done()
			assert(t, errors.Is(context.Cause(ctx), ezq.ErrInterrupted))
			return ctx.Err()
		}, ezq.Size(3))
		publishOrders(t, broker, 3)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, router.Run(ctx), ezq.ErrDrainTimeout)
		rest := remaining(t, broker)
		require.Len(t, rest, 3)
		require.Zero(t, rest[0].Failures)
	})
}

func TestConcurrency_CountsBatches(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 3})
		var work, single gauge
		ezq.HandleBatch(router, func(context.Context, []orderPlaced) error { work.during(time.Second); return nil },
			ezq.Size(5), ezq.Concurrency(2))
		ezq.Handle(router, func(context.Context, mailDue) error { single.during(time.Second); return nil })
		publishOrders(t, broker, 50)
		publish(t, broker, mailDue{1}, mailDue{2}, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 2, work.most.Load())
		require.EqualValues(t, 10, work.total.Load())
		require.EqualValues(t, 2, single.total.Load())
		require.Empty(t, remaining(t, broker))
	})
}

// retryOnce is a middleware that calls its handler once more if that fails, as Retry does
// where the backend does not keep count.
func retryOnce(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		if out, err := next(msg); err == nil {
			return out, nil
		}
		return next(msg)
	}
}

func TestBatch_RetryNeedsSlotAgain(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var work gauge
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		calls := 0
		ezq.HandleBatch(router, func(context.Context, []orderPlaced) error {
			work.during(time.Second)
			if calls++; calls == 1 {
				return errBoom
			}
			return nil
		}, ezq.Size(2), ezq.Linger(time.Minute), ezq.Use(retryOnce))
		ezq.Handle(router, func(context.Context, mailDue) error { work.during(time.Second); return nil })
		publish(t, broker, orderPlaced{1}, orderPlaced{2}, mailDue{1}, mailDue{2}, mailDue{3}, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 5, work.total.Load())
		require.EqualValues(t, 1, work.most.Load())
		require.EqualValues(t, 5, router.Stats()["ezq"].Succeeded)
	})
}

func TestBatch_OfKeyedEventsHasOneAndLingers(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var got batches
		var last time.Duration
		start := time.Now()
		ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
			got.add(events)
			last = time.Since(start)
			return nil
		}, ezq.Linger(time.Minute))
		for i := range 3 {
			require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{ID: i}, ezq.Key("one")))
		}
		runFor(t, router, time.Hour)
		require.Equal(t, []int{1, 1, 1}, got.sizes())
		require.GreaterOrEqual(t, last, 3*time.Minute)
	})
}
