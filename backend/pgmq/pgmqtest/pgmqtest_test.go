package pgmqtest_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/pgmqtest"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

type due struct{ Number int }

func TestForward_PassesDelayAndRetryOfDays(t *testing.T) {
	t.Parallel()
	queue := pgmqtest.Open(t, pgtest.Database(t), nil)
	ctx, stop := context.WithCancel(t.Context())
	router := ezq.NewRouter(queue, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
	called := make(chan int, 10)
	ezq.Handle(router, func(ctx context.Context, _ due) error {
		failures := ezq.MetaFromContext(ctx).Failures
		called <- failures
		if failures == 0 {
			return ezq.RetryAfter(48*time.Hour, errors.New("come back the day after tomorrow"))
		}
		return nil
	})
	require.NoError(t, ezq.Publish(ctx, queue, due{1}, ezq.Delay(24*time.Hour)))
	stopped := make(chan error, 1)
	go func() { stopped <- router.Run(ctx) }()

	require.NoError(t, queue.Forward(ctx, 23*time.Hour))
	require.Empty(t, called)
	require.NoError(t, queue.Forward(ctx, time.Hour))
	require.Equal(t, 0, <-called)
	require.NoError(t, queue.Forward(ctx, 48*time.Hour)) // waits until the failure is stored
	require.Equal(t, 1, <-called)
	stop()
	require.NoError(t, <-stopped)
}

func TestForward_EndsWithContext(t *testing.T) {
	t.Parallel()
	queue := pgmqtest.Open(t, pgtest.Database(t), nil)
	require.NoError(t, ezq.Publish(t.Context(), queue, due{1}))
	msgs, err := queue.Subscribe(t.Context(), ezq.DefaultTopic)
	require.NoError(t, err)
	msg := <-msgs
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, queue.Forward(ctx, time.Hour), context.DeadlineExceeded)
	msg.Ack()
	require.NoError(t, queue.Forward(t.Context(), time.Hour))
}
