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

func TestStopping_IsNilOutsideHandler(t *testing.T) {
	t.Parallel()
	require.Nil(t, ezq.StoppingFromContext(t.Context()))
}

func TestStopping_IgnoresPause(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			assert(t, router.Pause("ezq") == nil)
			select {
			case <-ezq.StoppingFromContext(ctx):
				t.Error("a pause is not a stop")
			case <-time.After(time.Second):
			}
			return nil
		})
		publish(t, broker, orderPlaced{1})
		runFor(t, router, time.Minute)
		require.Empty(t, remaining(t, broker))
	})
}

func TestStopping_IsVisibleToEndEventObserver(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		stopping := false
		ezq.Handle(router, func(ctx context.Context, _ ezq.EndEvent) error {
			select {
			case <-ezq.StoppingFromContext(ctx):
				stopping = true
			case <-time.After(time.Second):
			}
			return nil
		})
		publish(t, broker, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.True(t, stopping)
	})
}

func TestEndEvent_StopsRouterDespiteObserverAlias(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		observed := 0
		ezq.Handle(router, func(context.Context, ezq.EndEvent) error { observed++; return nil }, ezq.Alias("Finish"))
		require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(`{"_type":"Finish"}`))))
		publish(t, broker, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, 2, observed, "the alias itself stops nothing")
	})
}

func TestControlEvents_LogFailedObserverOnly(t *testing.T) {
	for name, err := range map[string]error{"an observer that fails is logged": errBoom, "an observer that succeeds is not logged": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router, log := newLoggingRouter(broker)
				ezq.Handle(router, func(context.Context, ezq.EndEvent) error { return err })
				publish(t, broker, ezq.EndEvent{})
				require.NoError(t, router.Run(t.Context()))
				require.Equal(t, err != nil, bytes.Contains(log.Bytes(), []byte("the handler of a control event failed")))
			})
		})
	}
}
