package pgmq_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// The router on PGMQ. What it does with time is tested in package ezq.

type userCreated struct{ Email string }

func (userCreated) EventName() string { return "UserCreated" }

func newRouter(client *pgmq.Client, config ezq.Config) *ezq.Router {
	config.Logger = slog.New(slog.DiscardHandler)
	return ezq.NewRouter(client, &config)
}

func TestRouter_HandlesEventSentBySQL(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	router := newRouter(client, ezq.Config{Concurrency: 1})
	var got []string
	ezq.Handle(router, func(_ context.Context, e userCreated) error {
		got = append(got, e.Email)
		return nil
	})
	execute(t, pool, `select pgmq.create('ezq')`)
	execute(t, pool, `select pgmq.send('ezq', '{"_type":"UserCreated","Email":"x@example.com"}')`)
	execute(t, pool, `select pgmq.send('ezq', '{"Email": "y@example.com", "_type": "UserCreated", "more": [1]}')`)
	execute(t, pool, `select pgmq.send('ezq', '{"_type":"EZQEndEvent","timeout":10.0}')`)
	require.NoError(t, router.Run(t.Context()))
	require.Equal(t, []string{"x@example.com", "y@example.com"}, got)
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_ezq"), "the outcomes are stored when Run returns")
}

func TestEvent_ReadsAsObjectInSQL(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{"ada@example.com"}, ezq.Header("tenant", "a")))
	require.Equal(t, `{"Email": "ada@example.com", "_type": "UserCreated"}`, get[string](t, pool, "select message::text from pgmq.q_ezq"))
	require.Equal(t, "a", get[string](t, pool, "select headers->>'tenant' from pgmq.q_ezq"))
}

func TestWithTx_EventIsHandledAfterCommit(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	ctx, stop := context.WithCancel(t.Context())
	router := newRouter(client, ezq.Config{})
	var committed atomic.Bool
	ezq.Handle(router, func(_ context.Context, _ userCreated) error {
		defer stop()
		if !committed.Load() {
			return errors.New("handled before the commit")
		}
		return nil
	})
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, ezq.Publish(ctx, client.WithTx(tx), userCreated{"ada"}, ezq.Delay(time.Millisecond)))
	time.AfterFunc(100*time.Millisecond, func() {
		committed.Store(true)
		if err := tx.Commit(context.Background()); err != nil {
			t.Error(err)
			stop()
		}
	})
	require.NoError(t, router.Run(ctx))
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_ezq"))
}

func TestRouter_CountsFailuresOfRedeliveredEvent(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	ctx, stop := context.WithCancel(t.Context())
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(ctx context.Context, _ userCreated) error {
		meta := ezq.MetaFromContext(ctx)
		if meta.Failures < 3 {
			return ezq.RetryAfter(time.Millisecond, errors.New("not yet"))
		}
		assert.Equal(t, 4, meta.Delivery)
		stop()
		return nil
	})
	require.NoError(t, ezq.Publish(ctx, client, userCreated{"ada"}))
	require.NoError(t, router.Run(ctx))
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_ezq"))
}

func TestInterruption_FreesEventWithoutFailure(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Hour}})
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(ctx context.Context, _ userCreated) error {
		if err := ezq.Publish(context.WithoutCancel(ctx), client, ezq.InterruptEvent{}); err != nil { // which may interrupt this
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{"ada"}))
	require.ErrorIs(t, router.Run(t.Context()), ezq.ErrInterrupted)
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_ezq where vt <= clock_timestamp()"))
	require.Equal(t, 0, get[int](t, pool, "select coalesce((headers->>'ezq_failures')::int, 0) from pgmq.q_ezq"))
}

func TestRouter_SharesQueueWithAnother(t *testing.T) {
	t.Parallel()
	const events = 500
	database := pgtest.Database(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var handled atomic.Int32
	results := make(chan error)
	for range 2 {
		client := openAt(t, database, pgmq.Config{})
		router := newRouter(client, ezq.Config{})
		ezq.Handle(router, func(context.Context, userCreated) error {
			if handled.Add(1) == events {
				stop()
			}
			return nil
		})
		go func() { results <- router.Run(ctx) }()
	}
	client := openAt(t, database, pgmq.Config{})
	require.NoError(t, ezq.PublishBatch(ctx, client, make([]userCreated, events)))
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	require.EqualValues(t, events, handled.Load(), "each exactly once, as nothing failed")
	require.Zero(t, get[int](t, pgtest.Pool(t, database), "select count(*) from pgmq.q_ezq"))
}

func TestRun_ReportsServerError(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	admin := openAt(t, database, pgmq.Config{})
	require.NoError(t, admin.SubscribeInitialize("ezq"))
	client := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}"), pgmq.Config{})
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(context.Context, userCreated) error { return nil })
	err := router.Run(t.Context())
	var failed *ezq.SubscriptionError
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, pgmq.ErrPermission)
	t.Log(err)
}

func TestRun_StopsWhileQueueIsCreatedElsewhere(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "select pgmq.create('ezq')")
	require.NoError(t, err)
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(context.Context, userCreated) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- router.Run(ctx) }()
	pgtest.Eventually(t, patience, "the router waits for the transaction", func() bool {
		return get[bool](t, pool, "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')")
	})
	stop()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(10 * time.Second): // until Subscribe gives up it takes three times as long
		require.Fail(t, "Run did not end with its context")
	}
}
