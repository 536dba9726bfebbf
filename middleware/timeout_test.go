package middleware_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// waiting is a handler that waits for the end of its context.
func waiting(msg *message.Message) ([]*message.Message, error) {
	<-msg.Context().Done()
	return nil, msg.Context().Err()
}

func TestTimeout_EndsContextAndNamesLimit(t *testing.T) {
	t.Parallel()
	for after, limit := range map[time.Duration]time.Duration{0: time.Minute, time.Hour: time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var cause error
			_, err := middleware.Timeout{After: after}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
				out, err := waiting(msg)
				cause = context.Cause(msg.Context())
				return out, err
			})(plainMessage(t))
			require.Equal(t, limit, time.Since(start))
			require.EqualError(t, cause, "middleware: the handler took longer than "+limit.String())
			require.ErrorIs(t, cause, context.DeadlineExceeded)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, cause)
			require.EqualError(t, err, cause.Error()+": context deadline exceeded")
		})
	}
}

func TestTimeout_LeavesOtherOutcomesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle := middleware.Timeout{}.Middleware
		_, err := handle(failing(errBoom))(plainMessage(t))
		require.Equal(t, errBoom, err)

		_, err = handle(func(*message.Message) ([]*message.Message, error) {
			time.Sleep(time.Hour)
			return nil, nil
		})(plainMessage(t))
		require.NoError(t, err, "late, but done")

		ended := plainMessage(t)
		ctx, cancel := context.WithCancel(ended.Context())
		cancel()
		ended.SetContext(ctx)
		_, err = handle(waiting)(ended)
		require.Equal(t, context.Canceled, err, "the caller has ended the context")

		_, err = handle(func(msg *message.Message) ([]*message.Message, error) {
			<-msg.Context().Done()
			return nil, context.Cause(msg.Context())
		})(plainMessage(t))
		require.EqualError(t, err, "middleware: the handler took longer than 1m0s", "the limit is named once")
	})
}

func TestTimeout_CountsAsFailureUnlikeInterruption(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		policies := []message.HandlerMiddleware{
			middleware.Timeout{After: time.Second}.Middleware,
			middleware.Retry{Attempts: 2}.Middleware,
			middleware.Timeout{After: 500 * time.Millisecond}.Middleware,
			middleware.Poison{Logger: quiet()}.Middleware,
		}
		handler := func(ctx context.Context, _ orderPlaced) error {
			<-ctx.Done()
			return ctx.Err()
		}
		publish(t, broker, orderPlaced{1})
		router := newRouter(broker, policies...)
		ezq.Handle(router, handler)
		time.AfterFunc(100*time.Millisecond, func() { publish(t, broker, ezq.InterruptEvent{}) })
		require.ErrorIs(t, router.Run(t.Context()), ezq.ErrInterrupted)

		start := time.Now()
		router = newRouter(broker, policies...)
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			if ezq.MetaFromContext(ctx).Failures == 0 {
				assert.Less(t, time.Since(start), 10*time.Millisecond, "the interrupted one came back at once")
			}
			return handler(ctx, e)
		})
		run(t, router, time.Minute)
		require.Len(t, drain(t, broker, "ezq_dead"), 1)
	})
}
