package ezq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type orderPlaced struct{ ID int }

func (orderPlaced) EventName() string { return "OrderPlaced" }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// bubble runs f with a memory queue in virtual time. It fails if f leaves a
// goroutine behind.
func bubble(t *testing.T, f func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(&memory.Config{Logger: quiet()})
		f(t, broker)
		require.NoError(t, broker.Close())
	})
}

// publish publishes events in one call. Any goroutine may call it.
func publish(t *testing.T, queue message.Publisher, events ...any) {
	t.Helper()
	if err := ezq.PublishBatch(t.Context(), queue, events); err != nil {
		t.Error(err)
	}
}

func newRouter(queue message.Subscriber, config ezq.Config) *ezq.Router {
	config.Logger = quiet()
	return ezq.NewRouter(queue, &config)
}

// newLoggingRouter returns a router and its log, which may be read when it has stopped.
func newLoggingRouter(queue message.Subscriber) (*ezq.Router, *bytes.Buffer) {
	var log bytes.Buffer
	return ezq.NewRouter(queue, &ezq.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}), &log
}

// remaining runs a router until nothing more is delivered, and returns what was.
func remaining(t *testing.T, broker *memory.Broker) (metas []ezq.Meta) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Hour)
	defer stop()
	router := newRouter(broker, ezq.Config{Concurrency: 1})
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		metas = append(metas, ezq.MetaFromContext(ctx))
		return nil
	})
	require.NoError(t, router.Run(ctx))
	return metas
}

func TestHandle_ReceivesEventsOfItsType(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		type userCreated struct{ Email string }
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		var got []string
		ezq.Handle(router, func(_ context.Context, e userCreated) error {
			got = append(got, e.Email)
			return nil
		})
		ezq.Handle(router, func(_ context.Context, e *orderPlaced) error {
			got = append(got, fmt.Sprint(e.ID))
			return nil
		})
		publish(t, broker, userCreated{"ada"}, orderPlaced{7}, &userCreated{"grace"}, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, []string{"ada", "7", "grace"}, got)
	})
}

func TestEndEvent_FinishesEarlierEventsOnly(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 3})
		var handled atomic.Int32
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			time.Sleep(time.Second)
			handled.Add(1)
			return nil
		})
		publish(t, broker, orderPlaced{1}, orderPlaced{2}, ezq.EndEvent{}, orderPlaced{3}, orderPlaced{4})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 2, handled.Load())
		rest := remaining(t, broker)
		require.Len(t, rest, 2, "the marker is gone, what stood behind it is not")
		require.Equal(t, 1, rest[0].Delivery, "to release what was only fetched is no delivery")
	})
}

func TestEndEvent_StopsOneRouter(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var ended atomic.Int32
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for range 2 {
			running.Go(func() {
				router := newRouter(broker, ezq.Config{})
				ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
				assert(t, router.Run(ctx) == nil)
				ended.Add(1)
			})
		}
		publish(t, broker, ezq.EndEvent{})
		synctest.Wait()
		require.EqualValues(t, 1, ended.Load())
		stop()
		running.Wait()
	})
}

// check fails the test, and not the handler that calls it, unless got is want.
func check[T comparable](t *testing.T, want, got T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// assert fails the test, and not the handler that calls it, unless ok.
func assert(t *testing.T, ok bool) {
	t.Helper()
	if !ok {
		t.Error("assertion failed")
	}
}

func TestControlEvents_CanBeObserved(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var observed ezq.EndEvent
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
		ezq.Handle(router, func(ctx context.Context, e ezq.EndEvent) error {
			check(t, nil, ctx.Err())
			check(t, "EZQEndEvent", ezq.MetaFromContext(ctx).Event)
			observed = e
			return errors.New("an observer cannot prevent the end")
		})
		publish(t, broker, ezq.EndEvent{Timeout: time.Minute})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, time.Minute, observed.Timeout)
	})
}

func TestControlEvents_CanBeIgnored(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{IgnoreControl: true, Concurrency: 1})
		handled := false
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			handled = true
			stop()
			return nil
		})
		publish(t, broker, ezq.EndEvent{}, ezq.InterruptEvent{}, orderPlaced{1})
		require.NoError(t, router.Run(ctx))
		require.True(t, handled)
	})
}

func TestTopic_WhenSlowDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		ezq.Handle(router, func(context.Context, orderPlaced) error { time.Sleep(9 * time.Second); return nil }, ezq.Topic("slow"))
		ezq.Handle(router, func(context.Context, orderPlaced) error { stop(); return nil }, ezq.Topic("fast"))
		require.NoError(t, ezq.Publish(ctx, broker, orderPlaced{1}, ezq.Topic("slow")))
		time.AfterFunc(time.Second, func() { assert(t, ezq.Publish(ctx, broker, orderPlaced{2}, ezq.Topic("fast")) == nil) })
		start := time.Now()
		require.NoError(t, router.Run(ctx))
		require.Equal(t, 9*time.Second, time.Since(start), "stopped after a second, then drained the slow one")
	})
}

func TestConcurrency_IsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 3})
		var now, most atomic.Int32
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil
		})
		for i := range 9 {
			publish(t, broker, orderPlaced{i})
		}
		publish(t, broker, ezq.EndEvent{})
		start := time.Now()
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 3, most.Load())
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestRun_ReportsEndedSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
		time.AfterFunc(time.Second, func() { _ = broker.Close() })
		var ended *ezq.SubscriptionError
		require.ErrorAs(t, router.Run(t.Context()), &ended)
		require.Equal(t, "ezq", ended.Topic)
	})
}

func TestRun_ReportsFailedSubscribe(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		require.NoError(t, broker.Close())
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
		var ended *ezq.SubscriptionError
		err := router.Run(t.Context())
		require.ErrorAs(t, err, &ended)
		require.ErrorContains(t, err, "closed")
	})
}
