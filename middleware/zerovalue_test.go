package middleware_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// A policy without settings is one that is fit for production. Watermill's Retry then
// retries nothing, its Throttle panics, and its Deduplicator forgets after 5 ms.
func TestZeroValue_IsReadyForUse(t *testing.T) {
	t.Run("Retry makes ten attempts in eight minutes", func(t *testing.T) {
		bubble(t, func(t *testing.T, broker *memory.Broker) {
			router := newRouter(broker, middleware.Retry{}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
			var at []time.Duration
			start := time.Now()
			ezq.Handle(router, func(context.Context, orderPlaced) error { at = append(at, time.Since(start)); return errBoom })
			publish(t, broker, orderPlaced{1})
			run(t, router, time.Hour)
			require.Len(t, at, 10)
			require.InDelta(t, 8*60, at[9].Seconds(), 60)
			require.Len(t, drain(t, broker, "ezq_dead"), 1)
		})
	})
	t.Run("Deduplicate remembers for a day", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			handler, calls := counting()
			handle := middleware.Deduplicate{Logger: quiet()}.Middleware(handler)
			for _, after := range []time.Duration{0, 24*time.Hour - 1, 1} {
				time.Sleep(after)
				_, err := handle(plainMessage(t))
				require.NoError(t, err)
			}
			require.EqualValues(t, 2, calls.Load(), "at the beginning, and after the day")
		})
	})
	t.Run("Timeout is a minute", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := middleware.Timeout{}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
				<-msg.Context().Done()
				return nil, msg.Context().Err()
			})(plainMessage(t))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Minute, time.Since(start))
		})
	})
	t.Run("Throttle lets one begin each second", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			require.Equal(t, []time.Duration{0, time.Second}, starts(t, 2, middleware.Throttle{}.Middleware))
		})
	})
}

// Watermill's router neither acks nor nacks it, and with a lease that is extended it
// would be stuck for ever.
func TestRetry_CountsGoexitAsFailure(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Retry{Attempts: 2}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
		calls := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls++; runtime.Goexit(); return nil })
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Hour)
		require.Equal(t, 2, calls)
		require.Len(t, drain(t, broker, "ezq_dead"), 1)
	})
}
