package middleware_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
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

// A message that waits for its turn is leased, for longer than leases last.
func TestThrottle_UnlikeWatermillHandlesWaitingMessageOnce(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Throttle{Per: 10 * time.Minute}.Middleware)
		var handled atomic.Int32
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			assert.Equal(t, 1, ezq.MetaFromContext(ctx).Delivery)
			handled.Add(1)
			return nil
		})
		publish(t, broker, orderPlaced{1}, orderPlaced{2}, orderPlaced{3}, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 3, handled.Load())
	})
}

// Also what is published in the handler, and also if the first event has no id.
func TestCorrelationID_UnlikeWatermillReachesWholeChain(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.CorrelationID{}.Middleware)
		ids := map[int]string{}
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			ids[e.ID] = ezq.CorrelationIDFromContext(ctx)
			if e.ID == 3 {
				return ezq.Publish(ctx, broker, ezq.EndEvent{})
			}
			return ezq.Publish(ctx, broker, orderPlaced{e.ID + 1})
		})
		publish(t, broker, orderPlaced{1})
		require.NoError(t, router.Run(t.Context()))
		require.Len(t, ids, 3)
		require.NotEmpty(t, ids[1])
		require.Equal(t, ids[1], ids[2])
		require.Equal(t, ids[1], ids[3])
	})
}

func TestPoison_UnlikeWatermillStoresNoStack(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
		ezq.Handle(router, func(context.Context, orderPlaced) error { panic("boom") })
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Minute)
		dead := drain(t, broker, "ezq_dead")
		require.Len(t, dead, 1)
		reason := dead[0].Metadata.Get(backend.DeadLetterReason)
		require.Contains(t, reason, "boom")
		require.False(t, strings.Contains(reason, "goroutine") || strings.Contains(reason, ".go:"), reason)
	})
}

// Watermill's router neither acks nor nacks it, and with a lease that is renewed it
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
