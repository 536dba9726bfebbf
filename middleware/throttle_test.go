package middleware_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// starts returns when each of n handlers begins that are called at once.
func starts(t *testing.T, n int, handles ...func(message.HandlerFunc) message.HandlerFunc) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var at []time.Duration
	begin := time.Now()
	handler := func(*message.Message) ([]*message.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Since(begin))
		return nil, nil
	}
	var calls sync.WaitGroup
	for _, handle := range handles {
		wrapped := handle(handler)
		for range n {
			calls.Go(func() { _, _ = wrapped(plainMessage(t)) })
		}
	}
	calls.Wait()
	return at
}

func TestThrottle_LimitsStarts(t *testing.T) {
	t.Parallel()
	const s, ms = time.Second, time.Millisecond
	for _, test := range []struct {
		name   string
		policy middleware.Throttle
		want   []time.Duration
	}{
		{"the zero value starts one each second", middleware.Throttle{}, []time.Duration{0, s, 2 * s, 3 * s, 4 * s}},
		{"a count per second starts at even intervals", middleware.Throttle{Count: 10}, []time.Duration{0, 100 * ms, 200 * ms, 300 * ms, 400 * ms}},
		{"a burst starts at once", middleware.Throttle{Count: 2, Per: time.Minute, Burst: 3}, []time.Duration{0, 0, 0, 30 * s, 60 * s}},
		{"an interval is rounded in favour of the limit", middleware.Throttle{Count: 3, Per: s}, []time.Duration{0, 333333334, 666666668, 1000000002, 1333333336}},
		{"the shortest interval is a nanosecond", middleware.Throttle{Count: 2e9, Per: s}, []time.Duration{0, 1, 2, 3, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				require.Equal(t, test.want, starts(t, 5, test.policy.Middleware))
			})
		})
	}
}

func TestThrottle_RemembersPauseForOneBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle := middleware.Throttle{Burst: 2}.PerProcess()
		starts(t, 1, handle)
		time.Sleep(time.Hour)
		require.Equal(t, []time.Duration{0, 0, time.Second}, starts(t, 3, handle))
	})
}

func TestThrottle_LimitsEachHandlerUnlessPerProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		policy := middleware.Throttle{}
		require.Equal(t, []time.Duration{0, 0}, starts(t, 1, policy.Middleware, policy.Middleware))
		shared := policy.PerProcess()
		require.Equal(t, []time.Duration{0, time.Second}, starts(t, 1, shared, shared))
	})
}

func TestThrottle_ReleasesWaitingMessageOnInterruption(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{Logger: quiet()}.Middleware,
			middleware.Throttle{Per: time.Hour}.Middleware)
		handled := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { handled++; return nil })
		publish(t, broker, orderPlaced{1}, orderPlaced{2}, orderPlaced{3})
		time.AfterFunc(time.Minute, func() { publish(t, broker, ezq.InterruptEvent{}) })
		require.ErrorIs(t, router.Run(t.Context()), ezq.ErrInterrupted)
		require.Equal(t, 1, handled)
		rest := drain(t, broker, "ezq")
		require.Len(t, rest, 2)
		for _, msg := range rest {
			require.Zero(t, backend.DeliveryFromContext(msg.Context()).Failures)
		}
		require.Empty(t, drain(t, broker, "ezq_dead"))
	})
}

func TestThrottle_ReleasesWaitingMessageInWatermillRouter(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{Number: 4, Failures: 3}
	msg := received(t, d)
	ctx, interrupt := context.WithCancelCause(msg.Context())
	interrupt(ezq.ErrInterrupted)
	msg.SetContext(ctx)
	called := false
	_, err := middleware.Throttle{}.Middleware(func(*message.Message) ([]*message.Message, error) {
		called = true
		return nil, nil
	})(msg)
	require.ErrorIs(t, err, ezq.ErrInterrupted, "the context's cause")
	require.False(t, called)
	v, _ := d.Disposition()
	require.Equal(t, backend.Redelivery{InPlace: true, Uncounted: true, Failures: 3}, v.Fallback)
}
