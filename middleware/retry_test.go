package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
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

func TestRetry_IsDurableOnCountingBackend(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		start := time.Now()
		var at []time.Duration
		for range 3 { // each attempt by another process, as it were
			ctx, stop := context.WithCancel(t.Context())
			router := newRouter(broker, middleware.Retry{Attempts: 3, Delay: time.Minute}.Middleware)
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				assert.Equal(t, len(at), ezq.MetaFromContext(ctx).Failures)
				at = append(at, time.Since(start))
				stop()
				return errBoom
			})
			require.NoError(t, router.Run(ctx))
			require.Equal(t, at[len(at)-1], time.Since(start), "nothing slept")
		}
		requireWait(t, time.Minute, at[1]-at[0])
		requireWait(t, 2*time.Minute, at[2]-at[1])
	})
}

func requireWait(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.LessOrEqual(t, got, want)
	require.GreaterOrEqual(t, got, want*4/5, "jitter takes up to a fifth off")
}

func TestRetry_MakesFinalFailurePermanent(t *testing.T) {
	t.Parallel()
	handle := middleware.Retry{Attempts: 3}.Middleware(failing(errBoom))
	for failures, final := range []bool{false, false, true, true} {
		_, err := handle(received(t, &backend.Delivery{Number: 9, Failures: failures}))
		require.ErrorIs(t, err, errBoom)
		require.EqualError(t, err, "boom")
		require.Equal(t, final, ezq.IsPermanent(err), "%d failures before", failures)
		_, waits := ezq.RetryDelay(err)
		require.Equal(t, !final, waits)
	}
}

func TestRetry_TakesPermanentErrorAsFinal(t *testing.T) {
	t.Parallel()
	for _, msg := range []*message.Message{plainMessage(t), received(t, &backend.Delivery{Number: 1})} {
		calls := 0
		_, err := middleware.Retry{}.Middleware(func(*message.Message) ([]*message.Message, error) {
			calls++
			return nil, fmt.Errorf("wrapped: %w", ezq.Permanent(errBoom))
		})(msg)
		require.True(t, ezq.IsPermanent(err))
		require.Equal(t, 1, calls)
	}
}

func TestRetry_KeepsDelayOfRetryAfterAndCounts(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
		var at []time.Duration
		start := time.Now()
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			at = append(at, time.Since(start))
			return ezq.RetryAfter(time.Hour, errBoom)
		})
		publish(t, broker, orderPlaced{1})
		run(t, router, 24*time.Hour)
		require.Equal(t, []time.Duration{0, time.Hour, 2 * time.Hour}, at)
		require.Len(t, drain(t, broker, "ezq_dead"), 1)
	})
}

func TestRetry_EndsWithoutPoisonToo(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Retry{Attempts: 1}.Middleware)
		calls := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls++; return errBoom })
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Minute)
		require.Equal(t, 1, calls)
		require.Len(t, drain(t, broker, "ezq_dead"), 1)
	})
}

func TestRetry_RunsInProcessOnBackendWithoutProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, policies := range bothOrders(
			middleware.Retry{Attempts: 3}.Middleware,
			middleware.Poison{Topic: "dead", To: &recorder{}, Logger: quiet()}.Middleware,
		) {
			calls := 0
			msg := plainMessage(t)
			msg.SetContext(backend.WithDelivery(msg.Context(), &backend.Delivery{Number: 100}))
			_, err := chain(func(*message.Message) ([]*message.Message, error) { calls++; return nil, errBoom }, policies...)(msg)
			require.NoError(t, err, name)
			require.Equal(t, 3, calls, "%s: a hundred deliveries need not have been without an outcome", name)
		}
	})
}

func TestRetry_RunsInProcessOnForeignBackend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		last := time.Now()
		msg := plainMessage(t)
		_, err := middleware.Retry{Attempts: 5, MaxDelay: 3 * time.Second}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
			require.NoError(t, msg.Context().Err(), "each attempt has a living context")
			waits = append(waits, time.Since(last))
			last = time.Now()
			dead, cancel := context.WithCancel(msg.Context())
			cancel()
			msg.SetContext(dead)
			return nil, errBoom
		})(msg)
		require.True(t, ezq.IsPermanent(err))
		require.ErrorIs(t, err, errBoom)
		require.Len(t, waits, 5)
		for i, want := range []time.Duration{0, 1, 2, 3, 3} {
			requireWait(t, want*time.Second, waits[i])
		}
		require.False(t, backend.Nacked(msg))
	})
}

func TestRetry_InProcessEndsWithSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		out, err := middleware.Retry{}.Middleware(func(*message.Message) ([]*message.Message, error) {
			if calls++; calls < 3 {
				return nil, ezq.RetryAfter(time.Hour, errBoom)
			}
			return []*message.Message{message.NewMessage("next", nil)}, nil
		})(plainMessage(t))
		require.NoError(t, err)
		require.Len(t, out, 1)
		require.Equal(t, 3, calls)
	})
}

func TestRetry_InProcessEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		calls := 0
		msg := plainMessage(t)
		msg.SetContext(ctx)
		start := time.Now()
		_, err := middleware.Retry{Delay: time.Minute}.Middleware(func(*message.Message) ([]*message.Message, error) {
			calls++
			return nil, errBoom
		})(msg)
		require.Equal(t, errBoom, err, "that of the handler, and not final")
		require.Equal(t, 2, calls)
		require.Equal(t, 90*time.Second, time.Since(start))
	})
}

func TestRetry_InProcessDelaysNoStoppingRouter(t *testing.T) {
	t.Parallel()
	queue := newGoChannel(t)
	ctx, stop := context.WithCancel(t.Context())
	router := newRouter(queue, middleware.Retry{Delay: time.Hour}.Middleware)
	ezq.Handle(router, func(context.Context, orderPlaced) error { stop(); return errBoom })
	publish(t, queue, orderPlaced{1})
	require.NoError(t, router.Run(ctx))
}

func TestRetry_CountsNoInterruption(t *testing.T) {
	for _, cause := range []error{ezq.ErrInterrupted, ezq.ErrLeaseLost, ezq.ErrCancelled} {
		for name, disposition := range map[string]error{
			"an error": errBoom, "a permanent error": ezq.Permanent(errBoom), "RetryAfter": ezq.RetryAfter(time.Hour, errBoom),
		} {
			t.Run(fmt.Sprintf("%v, %s", cause, name), func(t *testing.T) {
				t.Parallel()
				d := &backend.Delivery{Number: 8, Failures: 7, Done: []string{"one"}, DeadLetters: true}
				msg := received(t, d)
				ctx, cancel := context.WithCancelCause(msg.Context())
				msg.SetContext(ctx)
				_, err := chain(func(*message.Message) ([]*message.Message, error) {
					cancel(cause)
					return nil, disposition
				}, middleware.Poison{Topic: "dead"}.Middleware, middleware.Retry{Attempts: 1}.Middleware)(msg)
				require.Equal(t, disposition, err)
				v, ok := d.Disposition()
				require.True(t, ok)
				require.Equal(t, backend.Redelivery{InPlace: true, Failures: 7, Done: []string{"one"}}, v.Fallback, "nothing is charged")
				require.Nil(t, v.Target)
			})
		}
	}
}

func TestRetry_CountsNoReportedLostLease(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{Number: 1, DeadLetters: true}
	lost := fmt.Errorf("commit: %w", ezq.ErrLeaseLost)
	_, err := chain(failing(lost), middleware.Poison{Topic: "dead"}.Middleware, middleware.Retry{Attempts: 1}.Middleware)(received(t, d))
	require.Equal(t, lost, err)
	_, decided := d.Disposition()
	require.False(t, decided)
}

func TestRetry_CountsFailureDespiteEndedContext(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{Number: 1, DeadLetters: true}
	msg := received(t, d)
	ctx, cancel := context.WithCancel(msg.Context())
	cancel() // ezq's backends and its router name the cause
	msg.SetContext(ctx)
	_, err := chain(failing(errBoom), middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware, middleware.Retry{Attempts: 1}.Middleware)(msg)
	require.NoError(t, err)
	v, _ := d.Disposition()
	require.NotNil(t, v.Target)
}

func TestRetry_LeavesNackToRouter(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		seen := 0
		router := newRouter(broker, func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				out, err := next(msg)
				assert.False(t, backend.Nacked(msg))
				assert.NoError(t, msg.Context().Err(), "a middleware further out can still work")
				seen++
				return out, err
			}
		}, middleware.Retry{}.Middleware)
		ezq.Handle(router, func(context.Context, orderPlaced) error { return errBoom })
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Minute)
		require.Greater(t, seen, 3)
	})
}

func TestRetry_CountsPanicAsFailure(t *testing.T) {
	t.Parallel()
	for name, policies := range bothOrders(middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware) {
		d := &backend.Delivery{Number: 1, DeadLetters: true}
		_, err := chain(func(*message.Message) ([]*message.Message, error) { panic("boom") }, policies...)(received(t, d))
		require.NoError(t, err)
		v, _ := d.Disposition()
		require.NotNil(t, v.Target, name)
		require.Equal(t, "ezq: handler panicked: boom", v.Target.Metadata[backend.DeadLetterReason])
	}
	_, err := middleware.Retry{}.Middleware(func(*message.Message) ([]*message.Message, error) { panic("boom") })(received(t, &backend.Delivery{}))
	e, ok := errors.AsType[*ezq.PanicError](err)
	require.True(t, ok)
	require.Contains(t, string(e.Stack), "TestRetry_CountsPanicAsFailure")
}

func TestRetry_InnermostDecides(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		type patient struct{}
		type ordinary struct{}
		type hasty struct{}
		var calls [3]atomic.Int32
		count := func(n int) error { calls[n].Add(1); return errBoom }
		router := newRouter(broker, middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
		ezq.Handle(router, func(context.Context, patient) error { return count(0) }, ezq.Use(middleware.Retry{Attempts: 5}.Middleware))
		ezq.Handle(router, func(context.Context, ordinary) error { return count(1) })
		ezq.Handle(router, func(context.Context, hasty) error { return count(2) }, ezq.Use(middleware.Retry{Attempts: 1}.Middleware))
		publish(t, broker, patient{}, ordinary{}, hasty{})
		run(t, router, time.Hour)
		require.EqualValues(t, 5, calls[0].Load())
		require.EqualValues(t, 3, calls[1].Load())
		require.EqualValues(t, 1, calls[2].Load())
		require.Len(t, drain(t, broker, "ezq_dead"), 3)
	})
}

func TestRetry_InnermostDecidesInProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, attempts := range []int{1, 5} {
			calls := 0
			var dead recorder
			_, err := chain(func(*message.Message) ([]*message.Message, error) { calls++; return nil, errBoom },
				middleware.Poison{Topic: "dead", To: &dead, Logger: quiet()}.Middleware,
				middleware.Retry{Attempts: 3}.Middleware, middleware.Retry{Attempts: attempts}.Middleware)(plainMessage(t))
			require.NoError(t, err)
			require.Equal(t, attempts, calls)
			require.Equal(t, strconv.Itoa(attempts), dead.msgs[0].Metadata.Get(backend.DeadLetterFailures))
		}
	})
}

func TestRetry_WaitsDoNotOverflow(t *testing.T) {
	t.Parallel()
	for _, initial := range []time.Duration{0, 1, time.Millisecond, time.Hour, math.MaxInt64} {
		for _, failures := range []int{-1, 0, 1, 30, 62, 63, 64, 310, math.MaxInt - 2} {
			for _, longest := range []time.Duration{0, time.Minute, math.MaxInt64} {
				policy := middleware.Retry{Attempts: math.MaxInt, Delay: initial, MaxDelay: longest}
				_, err := policy.Middleware(failing(errBoom))(received(t, &backend.Delivery{Failures: failures}))
				wait, ok := ezq.RetryDelay(err)
				require.True(t, ok, "%+v after %d failures: %v", policy, failures, err)
				require.Positive(t, wait, "%+v after %d failures", policy, failures)
				if failures > 64 && longest > 0 {
					requireWait(t, longest, wait)
				}
			}
		}
	}
}

func chain(h message.HandlerFunc, policies ...message.HandlerMiddleware) message.HandlerFunc {
	for _, policy := range slices.Backward(policies) {
		h = policy(h)
	}
	return h
}

func bothOrders(retry, poison message.HandlerMiddleware) map[string][]message.HandlerMiddleware {
	return map[string][]message.HandlerMiddleware{
		"Poison inside of Retry": {retry, poison},
		"Retry inside of Poison": {poison, retry},
	}
}

func TestPolicies_IgnoreSnooze(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Poison{MaxDeliveries: 3, Logger: quiet()}.Middleware,
			middleware.Retry{Attempts: 2}.Middleware, deduplicate().Middleware)
		var metas []ezq.Meta
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			if metas = append(metas, ezq.MetaFromContext(ctx)); len(metas) <= 30 {
				return fmt.Errorf("too many requests: %w", ezq.Snooze(time.Minute))
			}
			return nil
		})
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Hour)
		require.Len(t, metas, 31)
		require.Equal(t, metas[0], metas[30], "neither a failure nor a delivery, and the same id")
		require.Empty(t, drain(t, broker, "ezq_dead"))
		require.Empty(t, drain(t, broker, "ezq"))
	})
}
