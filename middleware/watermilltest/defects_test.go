package watermilltest

import (
	"context"
	"errors"
	"fmt"
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

// A test for each defect of Watermill's own middleware that the documentation of package
// middleware names: the policies of ezq do not have it.

func TestRetry_WaitIgnoresObservers(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		observe := func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				out, err := next(msg)
				for range 10 { // whatever a hook can look at
					_, _ = ezq.RetryDelay(err)
					_ = ezq.IsPermanent(err)
				}
				return out, err
			}
		}
		router := newRouter(broker, observe, middleware.Retry{}.Middleware, observe)
		var at []time.Time
		ezq.Handle(router, func(context.Context, orderPlaced) error { at = append(at, time.Now()); return errBoom })
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Minute)
		for i := range at[1:] {
			requireWait(t, time.Second<<i, at[i+1].Sub(at[i]))
		}
		require.Greater(t, len(at), 5)
	})
}

func TestRetry_OccupiesNoSlotWhileWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
		router.Use(middleware.Retry{Delay: time.Hour}.Middleware)
		start := time.Now()
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			assert.Zero(t, time.Since(start))
			if e.ID == 0 {
				return errBoom
			}
			return nil
		})
		publish(t, broker, orderPlaced{0}, orderPlaced{1}, orderPlaced{2}, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
	})
}

func TestRetry_KeepsHandlerErrorOnEnd(t *testing.T) {
	t.Parallel()
	msg := plainMessage(t)
	ctx, cancel := context.WithCancel(msg.Context())
	msg.SetContext(ctx)
	_, err := middleware.Retry{}.Middleware(func(*message.Message) ([]*message.Message, error) {
		cancel()
		return nil, errBoom
	})(msg)
	require.Equal(t, errBoom, err)
}

func TestTimeout_LeavesNoDeadContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		msg := plainMessage(t)
		_, err := chain(func(msg *message.Message) ([]*message.Message, error) {
			require.NoError(t, msg.Context().Err(), "attempt %d", calls+1)
			if calls++; calls < 3 {
				return waiting(msg)
			}
			return nil, nil
		}, middleware.Retry{}.Middleware, middleware.Timeout{}.Middleware)(msg)
		require.NoError(t, err)
		require.Equal(t, 3, calls)
		require.NoError(t, msg.Context().Err())
	})
}

func TestPoison_IgnoresShutdown(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		for _, policies := range bothOrders(middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{Logger: quiet()}.Middleware) {
			router := newRouter(broker, policies...)
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				<-ctx.Done()
				return ezq.Permanent(ctx.Err())
			})
			publish(t, broker, orderPlaced{1}, ezq.InterruptEvent{})
			require.ErrorIs(t, router.Run(t.Context()), ezq.ErrInterrupted)
			rest := drain(t, broker, "ezq")
			require.Len(t, rest, 1)
			require.Zero(t, backend.DeliveryFromContext(rest[0].Context()).Failures)
			require.Empty(t, drain(t, broker, "ezq_dead"))
		}
	})
}

func TestPoison_IgnoresShutdownOfWatermillRouter(t *testing.T) {
	t.Parallel()
	queue := newGoChannel(t)
	router, err := message.NewRouter(message.RouterConfig{}, nil)
	require.NoError(t, err)
	var dead recorder
	router.AddMiddleware(middleware.Poison{To: &dead}.Middleware, middleware.Retry{Attempts: 1}.Middleware)
	began := make(chan struct{}, 10)
	router.AddConsumerHandler("handler", "orders", queue, func(msg *message.Message) error {
		began <- struct{}{}
		<-msg.Context().Done()
		return msg.Context().Err()
	})
	ended := make(chan error)
	go func() { ended <- router.Run(context.WithoutCancel(t.Context())) }()
	require.NoError(t, queue.Publish("orders", message.NewMessage("1", nil)))
	<-began
	require.NoError(t, router.Close())
	require.NoError(t, <-ended)
	require.Zero(t, dead.len())
}

func TestPoison_LeavesMessageUnchanged(t *testing.T) {
	t.Parallel()
	msg := plainMessage(t)
	var dead recorder
	_, err := middleware.Poison{Topic: "dead", To: &dead, Logger: quiet()}.Middleware(failing(ezq.Permanent(errBoom)))(msg)
	require.NoError(t, err)
	require.Empty(t, msg.Metadata)
	require.NotEmpty(t, dead.msgs[0].Metadata)
}

func TestPoison_PublishesWithLivingContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var dead recorder
		msg := plainMessage(t)
		ctx, cancel := context.WithTimeout(msg.Context(), time.Minute)
		defer cancel()
		msg.SetContext(ctx)
		_, err := middleware.Poison{Topic: "dead", To: &dead, Logger: quiet()}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
			_, err := waiting(msg)
			return nil, ezq.Permanent(err)
		})(msg)
		require.NoError(t, err)
		require.NoError(t, dead.msgs[0].Context().Err())
	})
}

func TestPoison_AcceptsAnyErrorText(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{Number: 1, DeadLetters: true}
	bad := errors.New("a\x00b\xff" + string(make([]byte, 1<<20)))
	_, err := middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware(failing(ezq.Permanent(bad)))(received(t, d))
	require.NoError(t, err)
	v, _ := d.Disposition()
	require.LessOrEqual(t, len(v.Target.Metadata[backend.DeadLetterReason]), 1024)
	require.NotContains(t, v.Target.Metadata[backend.DeadLetterReason], "\x00")
}

func TestDeduplicate_HandlesFailedMessageAgain(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Deduplicate{Logger: quiet()}.Middleware)
		calls := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			if calls++; calls < 3 {
				return errBoom
			}
			return nil
		})
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Minute)
		require.Equal(t, 3, calls)
	})
}

func TestDeduplicate_KeysNeverCollide(t *testing.T) {
	t.Parallel()
	handler, calls := counting()
	handle := middleware.Deduplicate{Logger: quiet()}.Middleware(handler)
	const n = 10_000
	for i := range n {
		msg := message.NewMessage(fmt.Sprint(i), []byte(`{"n":1}`))
		_, err := handle(msg)
		require.NoError(t, err)
	}
	require.EqualValues(t, n, calls.Load())
}

func TestThrottle_WaitEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler, calls := counting()
		handle := middleware.Throttle{Per: time.Hour}.Middleware(handler)
		_, err := handle(plainMessage(t))
		require.NoError(t, err)
		msg := plainMessage(t)
		ctx, cancel := context.WithCancelCause(msg.Context())
		msg.SetContext(ctx)
		time.AfterFunc(time.Second, func() { cancel(errBoom) })
		start := time.Now()
		_, err = handle(msg)
		require.Equal(t, errBoom, err)
		require.Equal(t, time.Second, time.Since(start))
		require.EqualValues(t, 1, calls.Load())
	})
}

// A bubble fails if a goroutine is left, or a ticker keeps it alive.
func TestPolicies_LeaveNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			for _, policy := range policies() {
				_, err := policy(succeeding)(plainMessage(t))
				require.NoError(t, err)
			}
		}
	})
}

func TestPolicies_AckOnlyWhenDone(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var all []message.HandlerMiddleware
		for _, policy := range policies() {
			all = append(all, policy)
		}
		asks := func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				select {
				case <-msg.Acked():
					t.Error("it is acked")
				default:
				}
				require.NoError(t, msg.Context().Err())
				return next(msg)
			}
		}
		router := newRouter(broker, append(all, asks)...)
		var handled atomic.Int32
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			time.Sleep(time.Minute / 2)
			handled.Add(1)
			return ctx.Err()
		})
		publish(t, broker, orderPlaced{1}, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 1, handled.Load())
	})
}

func TestPoison_KnowsErrorsByWrapping(t *testing.T) {
	t.Parallel()
	permanent := ezq.Permanent(errBoom)
	for err, final := range map[error]bool{
		permanent:                               true,
		fmt.Errorf("order 7: %w", permanent):    true,
		errors.Join(errors.New("a"), permanent): true,
		errors.New(permanent.Error()):           false,
		fmt.Errorf("%v", permanent):             false, //nolint:errorlint // the text alone
	} {
		d := &backend.Delivery{Number: 1, DeadLetters: true}
		_, _ = middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware(failing(err))(received(t, d))
		v, _ := d.Disposition()
		require.Equal(t, final, v.Target != nil, "%#v", err)
	}
}

// A message that waits for its turn is leased, for longer than leases last.
func TestThrottle_HandlesWaitingMessageOnce(t *testing.T) {
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
func TestCorrelationID_ReachesWholeChain(t *testing.T) {
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

func TestPoison_StoresNoStack(t *testing.T) {
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
