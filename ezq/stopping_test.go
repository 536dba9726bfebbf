package ezq_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func TestOutsideOfAHandlerNothingIsStopping(t *testing.T) {
	t.Parallel()
	require.Nil(t, ezq.Stopping(t.Context()))
}

func TestAHandlerThatRunsWhenItsTopicIsPausedIsNotToldToStop(t *testing.T) {
	bubble(t, func(t *testing.T, queue *memory.Queue) {
		router := newRouter(queue, ezq.Config{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			assert(t, router.Pause("ezq") == nil)
			select {
			case <-ezq.Stopping(ctx):
				t.Error("a pause is not a stop")
			case <-time.After(time.Second):
			}
			return nil
		})
		publish(t, queue, orderPlaced{1})
		runFor(t, router, time.Minute)
		require.Empty(t, left(t, queue))
	})
}

func TestWhoObservesTheEndSeesThatTheRouterStops(t *testing.T) {
	bubble(t, func(t *testing.T, queue *memory.Queue) {
		router := newRouter(queue, ezq.Config{})
		stopping := false
		ezq.Handle(router, func(ctx context.Context, _ ezq.EndEvent) error {
			select {
			case <-ezq.Stopping(ctx):
				stopping = true
			case <-time.After(time.Second):
			}
			return nil
		})
		publish(t, queue, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.True(t, stopping)
	})
}

func TestAnEndStopsTheRouterAlsoIfItsObserverHasAnAlias(t *testing.T) {
	bubble(t, func(t *testing.T, queue *memory.Queue) {
		router := newRouter(queue, ezq.Config{Concurrency: 1})
		observed := 0
		ezq.Handle(router, func(context.Context, ezq.EndEvent) error { observed++; return nil }, ezq.Alias("Finish"))
		require.NoError(t, queue.Publish("ezq", message.NewMessage("1", []byte(`{"_type":"Finish"}`))))
		publish(t, queue, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, 2, observed, "the alias itself stops nothing")
	})
}

func TestAnObserverThatFailsIsLoggedAndOneThatDoesNotIsNot(t *testing.T) {
	for name, err := range map[string]error{"that fails": errBoom, "that does not": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, queue *memory.Queue) {
				router, log := newLoggingRouter(queue)
				ezq.Handle(router, func(context.Context, ezq.EndEvent) error { return err })
				publish(t, queue, ezq.EndEvent{})
				require.NoError(t, router.Run(t.Context()))
				require.Equal(t, err != nil, bytes.Contains(log.Bytes(), []byte("the handler of a control event failed")))
			})
		})
	}
}
