package ezq_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// cancelRunning cancels the event with that id. Any goroutine may call it.
func cancelRunning(t *testing.T, broker *memory.Broker, id string) backend.Cancelled {
	t.Helper()
	cancelled, err := broker.CancelRunning(t.Context(), ezq.DefaultTopic, backend.Selection{ID: id})
	if err != nil {
		t.Error(err)
	}
	return cancelled
}

func TestCancelRunning_EndsHandlerWithoutFailure(t *testing.T) {
	for name, fail := range map[string]func(ctx context.Context) error{
		"a handler that returns the error of its context":    func(ctx context.Context) error { return ctx.Err() },
		"a handler that returns the cause of its context":    context.Cause,
		"a handler that fails otherwise":                     func(context.Context) error { return errors.New("half done") },
		"a handler that fails for good":                      func(context.Context) error { return ezq.Permanent(errors.New("half done")) },
		"a handler that asks for another delivery":           func(context.Context) error { return ezq.RetryAfter(time.Second, errors.New("half done")) },
		"a handler that snoozes":                             func(context.Context) error { return ezq.Snooze(time.Second) },
		"a handler that panics":                              func(context.Context) error { panic("half done") },
		"a handler that is beyond its time, and was stopped": func(ctx context.Context) error { time.Sleep(time.Hour); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				router.Use(middleware.Retry{Attempts: 2}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
				calls, took := 0, time.Duration(0)
				ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
					calls++
					start := time.Now()
					<-ctx.Done()
					took = time.Since(start)
					assert(t, errors.Is(context.Cause(ctx), ezq.ErrCancelled))
					return fail(ctx)
				})
				require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{}, ezq.ID("a")))
				time.AfterFunc(time.Minute, func() {
					assert(t, cancelRunning(t, broker, "a") == backend.Cancelled{Stopped: 1})
				})
				runFor(t, router, 24*time.Hour)
				require.Equal(t, 1, calls)
				require.Equal(t, time.Minute, took, "it is told at once")
				require.Empty(t, remaining(t, broker))
				letters, err := broker.Find(t.Context(), ezq.DefaultTopic, backend.Selection{ID: "a"})
				require.NoError(t, err)
				require.Empty(t, letters, "it is no dead letter")
				require.Equal(t, ezq.TopicStats{Claimed: 1, Cancelled: 1}, router.Stats()[ezq.DefaultTopic])
			})
		})
	}
}

func TestCancelRunning_LeavesHandlerThatSucceedsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			<-ctx.Done()
			return nil // it has done its work all the same
		})
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{}, ezq.ID("a")))
		time.AfterFunc(time.Minute, func() { cancelRunning(t, broker, "a") })
		runFor(t, router, time.Hour)
		require.Equal(t, ezq.TopicStats{Claimed: 1, Succeeded: 1}, router.Stats()[ezq.DefaultTopic])
	})
}

func TestCancelRunning_EndsAllHandlersOfTheEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var calls [2]int
		for i, name := range []string{"mail", "bill"} {
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				calls[i]++
				if name == "mail" {
					return errors.New("it has failed before")
				}
				<-ctx.Done()
				return ctx.Err()
			}, ezq.Name(name))
		}
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{}, ezq.ID("a")))
		time.AfterFunc(time.Minute, func() { cancelRunning(t, broker, "a") })
		runFor(t, router, time.Hour)
		require.Equal(t, [2]int{1, 1}, calls)
		require.Equal(t, ezq.TopicStats{Claimed: 1, Cancelled: 1}, router.Stats()[ezq.DefaultTopic])
	})
}

// An event that waits for its key is cancelled as one that is handled is, and the others of the key go on.
func TestCancelRunning_OfWhatWaitsForItsKeyHandlesItNot(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 3})
		var handled []int
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			handled = append(handled, e.ID)
			time.Sleep(time.Minute)
			return nil
		})
		for i, id := range []string{"a", "b", "c"} {
			require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{ID: i}, ezq.ID(id), ezq.Key("k")))
		}
		time.AfterFunc(time.Second, func() { cancelRunning(t, broker, "b") })
		runFor(t, router, time.Hour)
		require.Equal(t, []int{0, 2}, handled)
		require.EqualValues(t, 1, router.Stats()[ezq.DefaultTopic].Cancelled)
	})
}

func TestCancelRunning_ConcernsOneEventOfABatch(t *testing.T) {
	for name, test := range map[string]struct {
		at     time.Duration // when it is cancelled: before the batch is full, or while it is handled
		failed error
		sizes  []int
		want   ezq.TopicStats
	}{
		"before the batch is handled":             {at: time.Minute / 2, sizes: []int{2}, want: ezq.TopicStats{Claimed: 3, Succeeded: 2, Cancelled: 1}},
		"while the batch is handled":              {at: 2 * time.Minute, sizes: []int{3}, want: ezq.TopicStats{Claimed: 3, Succeeded: 3}},
		"while the batch is handled, which fails": {at: 2 * time.Minute, failed: ezq.Permanent(errors.New("no")), sizes: []int{3}, want: ezq.TopicStats{Claimed: 3, DeadLettered: 2, Cancelled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				var got batches
				ezq.HandleBatch(router, func(ctx context.Context, events []orderPlaced) error {
					got.add(events)
					time.Sleep(5 * time.Minute)
					assert(t, ctx.Err() == nil)
					return test.failed
				}, ezq.Size(10), ezq.Linger(time.Minute))
				for i, id := range []string{"a", "b", "c"} {
					require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{ID: i}, ezq.ID(id)))
				}
				time.AfterFunc(test.at, func() { cancelRunning(t, broker, "b") })
				runFor(t, router, time.Hour)
				require.Equal(t, test.sizes, got.sizes())
				stats := router.Stats()[ezq.DefaultTopic]
				stats.LastFailure = time.Time{}
				require.Equal(t, test.want, stats)
			})
		})
	}
}

func TestCancelRunning_EndsHandlerInAWatermillRouter(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{})
	begun, ended := make(chan struct{}), make(chan struct{})
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		close(begun)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	})
	w := watermillRouter(t)
	require.NoError(t, router.Attach(w))
	go func() { _ = w.Run(context.Background()) }()
	<-w.Running()
	require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{}, ezq.ID("a")))
	within(t, begun, "it is handled")
	require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, broker, "a"))
	within(t, ended, "its handler is told")
	require.NoError(t, w.Close())
	require.Equal(t, ezq.TopicStats{Claimed: 1, Cancelled: 1}, router.Stats()[ezq.DefaultTopic])
	require.NoError(t, broker.Close())
}
