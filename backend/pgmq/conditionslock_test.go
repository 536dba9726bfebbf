package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func conditions() map[string]func() *backend.PublishCondition {
	return map[string]func() *backend.PublishCondition{
		"an ID":              once,
		"a key":              func() *backend.PublishCondition { return unique("k") },
		"a key that repeats": func() *backend.PublishCondition { return replacing("k", 0) },
	}
}

// Beside others that use the same lock, one that gives up after a moment may never get it.
func TestConditions_GiveATriggerTheTimeThatAPublishHas(t *testing.T) {
	t.Parallel()
	for name, condition := range conditions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, `select pgmq.create('t'); create sequence begun; create sequence attempts; create table counter (n int); insert into counter values (0)`)
			execute(t, pool, `
				create function begin_to_count() returns trigger language plpgsql as $$ begin perform nextval('begun'); lock table counter; return null; end $$;
				create function count_up() returns trigger language plpgsql as $$ begin perform nextval('attempts'); update counter set n = n + 1; return new; end $$;
				create trigger begin_to_count before insert on pgmq.q_t for each statement execute function begin_to_count();
				create trigger count_up before insert on pgmq.q_t for each row execute function count_up()`)
			publish(t, client, "before")
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			_, err = tx.Exec(t.Context(), "update counter set n = n + 1")
			require.NoError(t, err)
			published := make(chan error, 1)
			go func() { published <- client.Publish("t", conditional(t.Context(), "a", condition(), 0)) }()
			pgtest.Eventually(t, patience, "it waits for the lock", func() bool { return get[int](t, pool, "select last_value from begun") > 1 })
			select {
			case err := <-published:
				require.Fail(t, "it did not wait", err)
			case <-time.After(200 * time.Millisecond): // ten times as long as it waits for another one with the ID
			}
			require.NoError(t, tx.Commit(t.Context()))
			require.NoError(t, <-published)
			require.Equal(t, 2, get[int](t, pool, "select last_value from begun"), "it began once")
			require.Equal(t, 2, get[int](t, pool, "select last_value from attempts"), "it began once")
		})
	}
}

func TestConditions_ReturnWhatATriggerRefuses(t *testing.T) {
	t.Parallel()
	for name, condition := range conditions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, `select pgmq.create('t');
				create function refuse() returns trigger language plpgsql as $$ begin raise exception 'the shop is closed' using errcode = '55P03'; end $$;
				create trigger refuse before insert on pgmq.q_t for each row execute function refuse()`)
			start := time.Now()
			err := client.Publish("t", conditional(t.Context(), "a", condition(), 0))
			require.ErrorIs(t, err, pgmq.ErrRejected)
			require.ErrorContains(t, err, "55P03")
			require.NotContains(t, err.Error(), "another transaction")
			require.Less(t, time.Since(start), 10*time.Second, "it was tried until the end")
		})
	}
}

// What the session says counts for what is not about an ID.
func TestConditions_KeepTheLockTimeoutOfTheSession(t *testing.T) {
	t.Parallel()
	for name, condition := range conditions() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			client, pool := openAt(t, database+"&lock_timeout=300ms", pgmq.Config{}), pgtest.Pool(t, database)
			execute(t, pool, `select pgmq.create('t'); create table counter (n int);
				create function count_up() returns trigger language plpgsql as $$ begin lock table counter; return new; end $$;
				create trigger count_up before insert on pgmq.q_t for each row execute function count_up()`)
			publishOn(t, client, "before", condition(), 0)
			execute(t, pool, "delete from pgmq.q_t")
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "lock table counter")
				require.NoError(t, err)
				err = client.Publish("t", conditional(t.Context(), "a", condition(), 0))
				require.ErrorIs(t, err, pgmq.ErrRejected)
				require.ErrorContains(t, err, "55P03")
				return nil
			}))
		})
	}
}
