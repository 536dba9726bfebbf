package pgmq_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// refuseLate has PostgreSQL refuse messages that contain "bad", when their transaction commits.
func refuseLate(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	execute(t, pool, `create function late() returns trigger language plpgsql as $$
		begin
			if new.message::text like '%bad%' then raise exception 'no bad ones' using errcode = '23514'; end if;
			return null;
		end $$;
		create constraint trigger late after insert on pgmq.q_t deferrable initially deferred for each row execute function late()`)
}

func requireRefusedLate(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, pgmq.ErrRejected)
	var failure *pgmq.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "t", failure.Topic)
	var cause *pgconn.PgError
	require.ErrorAs(t, err, &cause)
	require.Equal(t, "23514", cause.Code)
	require.ErrorContains(t, err, "no bad ones")
	require.Contains(t, failure.Remedy, "a constraint or a trigger")
}

// What a constraint refuses that is deferred was not stored, and neither was what is published with it.
func TestPublish_RefusedByDeferredConstraintIsRejected(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	refuseLate(t, pool)
	bad := func() *message.Message { return message.NewMessage("1", []byte("bad")) }
	good := func() *message.Message { return message.NewMessage("2", []byte("good")) }
	requireRefusedLate(t, client.Publish("t", bad()))
	requireRefusedLate(t, client.Publish("t", good(), bad(), good()))
	requireRefusedLate(t, ezq.PublishBatch(t.Context(), client, []userCreated{{"good"}, {"bad"}}, ezq.Topic("t")))
	requireCount(t, pool, "pgmq.q_t", 0)
	require.NoError(t, client.Publish("t", good(), good()))
	requireCount(t, pool, "pgmq.q_t", 2)
}

// They share statements, in which the others are not to blame.
func TestPublish_RefusedByDeferredConstraintStopsNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	refuseLate(t, pool)
	const n = 60
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() {
			body := "good"
			if i%3 == 0 {
				body = "bad"
			}
			errs[i] = client.Publish("t", message.NewMessage(fmt.Sprint(i), []byte(body)))
		})
	}
	all.Wait()
	for i, err := range errs {
		if i%3 == 0 {
			requireRefusedLate(t, err)
		} else {
			require.NoError(t, err)
		}
	}
	requireCount(t, pool, "pgmq.q_t", n-n/3)
}

// In a transaction of the caller it is the commit that fails: the caller's own, with PostgreSQL's words.
func TestWithTx_StoresNothingWhenDeferredConstraintRefuses(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	refuseLate(t, pool)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for _, body := range []string{"good", "bad"} {
			if err := client.WithTx(tx).Publish("t", message.NewMessage("1", []byte(body))); err != nil {
				return fmt.Errorf("before the commit: %w", err)
			}
		}
		return nil
	})
	require.ErrorContains(t, err, "no bad ones")
	require.NotContains(t, err.Error(), "before the commit")
	requireCount(t, pool, "pgmq.q_t", 0)

	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "set constraints all immediate"); err != nil {
			return err
		}
		return client.WithTx(tx).Publish("t", message.NewMessage("1", []byte("bad")))
	})
	requireRefusedLate(t, err)
	requireCount(t, pool, "pgmq.q_t", 0)
}

// The event whose handler publishes that has failed, with the reason, and is not lost.
func TestTxMiddleware_FailsWhenPublishIsRefusedLate(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	refuseLate(t, pool)
	execute(t, pool, "create table effects (id text)")
	router := newRouter(client, ezq.Config{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ezq.Handle(router, func(ctx context.Context, e userCreated) error {
		if _, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects values ($1)", e.Email); err != nil {
			return err
		}
		return client.WithTx(pgmq.TxFromContext(ctx)).Publish("t", message.NewMessage("1", []byte(e.Email)))
	}, ezq.Use(client.TxMiddleware()))
	require.NoError(t, ezq.PublishBatch(ctx, client, []userCreated{{"bad"}, {"good"}}))
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	requireCount(t, pool, "effects where id = 'good'", 1)
	pgtest.Eventually(t, patience, "it has failed", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_ezq where read_ct > 1 and message::text like '%bad%'") == 1
	})
	stop()
	require.NoError(t, <-ended)
	requireCount(t, pool, "effects where id = 'bad'", 0)
	requireCount(t, pool, "pgmq.q_t", 1)
}
