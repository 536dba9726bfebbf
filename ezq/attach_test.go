package ezq_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func watermillRouter(t *testing.T) *message.Router {
	t.Helper()
	w, err := message.NewRouter(message.RouterConfig{CloseTimeout: 20 * time.Second}, watermill.NopLogger{})
	require.NoError(t, err)
	return w
}

// within fails the test if done is not closed soon. These tests run in real time:
// Watermill's router waits while it holds a mutex, which stops virtual time.
func within(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	require.True(t, closedInTime(done), "this did not happen: "+what)
}

func closedInTime(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(20 * time.Second):
		return false
	}
}

func TestAttach_RunsHandlersInWatermillRouter(t *testing.T) {
	for name, before := range map[string]bool{"attached before it runs": true, "attached while it runs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := memory.New(&memory.Config{Logger: quiet()})
			router := newRouter(broker, ezq.Config{})
			var calls callCounts
			done := make(chan struct{})
			ezq.Handle(router, func(context.Context, orderPlaced) error { calls.add("steady"); return nil }, ezq.Name("steady"))
			ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
				meta := ezq.MetaFromContext(ctx)
				assert(t, e.ID == 7 && meta.Handler == "shaky" && meta.Topic == "ezq" && meta.Failures == meta.Delivery-1)
				if calls.add("shaky") < 3 {
					return ezq.RetryAfter(10*time.Millisecond, errBoom)
				}
				close(done)
				return nil
			}, ezq.Name("shaky"))

			w := watermillRouter(t)
			w.AddConsumerHandler("theirs", "other", broker, func(*message.Message) error { return nil })
			if before {
				require.NoError(t, router.Attach(w))
			}
			go func() { _ = w.Run(context.Background()) }()
			<-w.Running()
			if !before {
				require.NoError(t, router.Attach(w))
			}
			require.NoError(t, router.Ready())
			publish(t, broker, orderPlaced{7})
			within(t, done, "the third try succeeds")
			require.Equal(t, map[string]int{"steady": 1, "shaky": 3}, calls.all())
			require.NoError(t, w.Close())
			require.NoError(t, broker.Close())
		})
	}
}

func TestAttach_LetsHandlersFinishOnClose(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{})
	begun, finished := make(chan struct{}), make(chan struct{})
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		close(begun)
		<-ezq.StoppingFromContext(ctx)
		assert(t, ctx.Err() == nil)
		close(finished)
		return nil
	})
	w := watermillRouter(t)
	require.NoError(t, router.Attach(w))
	go func() { _ = w.Run(context.Background()) }()
	publish(t, broker, orderPlaced{1})
	within(t, begun, "the handler begins")
	require.NoError(t, w.Close())
	within(t, finished, "the handler learns of the end and goes on")
	require.NoError(t, broker.Close())
}

func TestAttach_ReportsInterruptedHandlers(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	reported := make(chan struct{})
	report := onLine(func(line string) {
		if strings.Contains(line, "the router has stopped") && strings.Contains(line, ezq.ErrDrainTimeout.Error()) {
			close(reported)
		}
	})
	router := ezq.NewRouter(broker, &ezq.Config{DrainTimeout: time.Millisecond, Logger: slog.New(slog.NewTextHandler(report, nil))})
	begun := make(chan struct{})
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	w := watermillRouter(t)
	require.NoError(t, router.Attach(w))
	go func() { _ = w.Run(context.Background()) }()
	publish(t, broker, orderPlaced{1})
	within(t, begun, "the handler begins")
	require.NoError(t, w.Close())
	within(t, reported, "the log names the handler")
	require.NoError(t, broker.Close())
}

// onLine is a writer for a log.
type onLine func(line string)

func (f onLine) Write(p []byte) (int, error) { f(string(p)); return len(p), nil }

func TestAttach_ControlEventStopsOwnHandlersOnly(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{})
	ended := make(chan struct{})
	ezq.Handle(router, func(context.Context, ezq.EndEvent) error { close(ended); return nil })
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
	w := watermillRouter(t)
	var theirs atomic.Int32
	handled := make(chan struct{}, 1)
	w.AddConsumerHandler("theirs", "other", broker, func(*message.Message) error {
		theirs.Add(1)
		handled <- struct{}{}
		return nil
	})
	require.NoError(t, router.Attach(w))
	go func() { _ = w.Run(context.Background()) }()
	publish(t, broker, ezq.EndEvent{})
	within(t, ended, "the end is observed")
	require.Eventually(t, func() bool { return fmt.Sprint(router.Ready()) == "ezq: the router has stopped" }, 10*time.Second, time.Millisecond)
	require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{1}, ezq.Topic("other")))
	<-handled
	require.False(t, w.IsClosed())
	require.NoError(t, w.Close())
	require.NoError(t, broker.Close())
}

func TestAttach_RefusesImpossibleWiring(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	w := watermillRouter(t)
	router := newRouter(broker, ezq.Config{})
	require.ErrorContains(t, router.Attach(nil), "is nil")
	require.ErrorContains(t, router.Attach(w), "no handlers")
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
	require.NoError(t, router.Attach(w))
	require.ErrorContains(t, router.Run(t.Context()), "started already")
	second := newRouter(broker, ezq.Config{})
	ezq.Handle(second, func(context.Context, orderPlaced) error { return nil })
	require.ErrorContains(t, second.Attach(w), `has a handler named "ezq ezq" already`)
}

// The typed handlers become part of a program that runs a Watermill router.
func ExampleRouter_Attach() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		fmt.Println("order", e.ID)
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})

	w, _ := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	_ = router.Attach(w)
	_ = ezq.Publish(ctx, broker, orderPlaced{ID: 7})
	fmt.Println(w.Run(ctx)) // ends when its last handler has ended
	// Output:
	// order 7
	// <nil>
}
