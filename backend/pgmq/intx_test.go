package pgmq_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

type transfer struct{ From, To, Amount int }

type transferred struct{ From, To, Amount int }

// pay moves money. What it does, and the event that says so, is one transaction.
func pay(client *pgmq.Client) func(ctx context.Context, e transfer) error {
	return func(ctx context.Context, e transfer) error {
		tx := pgmq.TxFromContext(ctx)
		if _, err := tx.Exec(ctx, "select from accounts where id in ($1, $2) order by id for update", e.From, e.To); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update accounts set balance = balance + case id when $1 then -$3::int else $3::int end
			where id in ($1, $2)`, e.From, e.To, e.Amount); err != nil {
			return err
		}
		return ezq.Publish(ctx, client.WithTx(tx), transferred(e), ezq.Topic("done"))
	}
}

// A bank with handlers that fail, panic and lose their leases, two consumers, and
// an interruption: money is neither made nor lost, and every transfer happens once.
func TestTxMiddleware_AppliesEffectsExactlyOnce(t *testing.T) {
	t.Parallel()
	const transfers, accounts = 100, 5
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create table accounts as select id, 1000 as balance from generate_series(0, 4) as id")
	execute(t, pool, "create table runs (id bigint generated always as identity)")
	client := openAt(t, database, pgmq.Config{})
	var events []transfer
	for i := range transfers {
		events = append(events, transfer{i % accounts, (i + 1) % accounts, i})
	}
	require.NoError(t, ezq.PublishBatch(t.Context(), client, events))

	var calls atomic.Int32
	consume := func(ctx context.Context, client *pgmq.Client) error {
		router := newRouter(client, ezq.Config{Concurrency: 4})
		work := pay(client)
		ezq.Handle(router, func(ctx context.Context, e transfer) error {
			if err := work(ctx, e); err != nil {
				return ezq.RetryAfter(time.Millisecond, err)
			}
			switch n := calls.Add(1); {
			case n%7 == 0:
				return ezq.RetryAfter(time.Millisecond, errors.New("failed after the effect"))
			case n%31 == 0: // its lease is taken away while it works
				_, err := pool.Exec(ctx, "update pgmq.q_ezq set vt = now(), read_ct = read_ct + 1 where read_ct > 0 and vt > now()")
				return err
			case n%29 == 0:
				panic("after the effect")
			}
			return nil
		}, ezq.Use(client.TxMiddleware()))
		return router.Run(ctx)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	results := make(chan error, 2)
	for range 2 {
		consumer := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Second}})
		go func() { results <- consume(ctx, consumer) }()
	}
	requireCount(t, pool, "pgmq.q_ezq", 0)
	stop()
	require.NoError(t, <-results)
	require.NoError(t, <-results)

	require.Equal(t, accounts*1000, get[int](t, pool, "select sum(balance) from accounts"))
	expected := [accounts]int{}
	for _, e := range events {
		expected[e.From] -= e.Amount
		expected[e.To] += e.Amount
	}
	for account, change := range expected {
		require.Equal(t, 1000+change, get[int](t, pool, "select balance from accounts where id = $1", account), fmt.Sprint("account ", account))
	}
	require.Equal(t, transfers, get[int](t, pool, "select count(*) from pgmq.q_done"), "and every transfer is announced once")
	require.Greater(t, int(calls.Load()), transfers, "although some ran more than once")
}

func TestTxMiddleware_RollsBackStaleRun(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1}})
	execute(t, pool, "create table effects (run int)")
	publish(t, client, "a")
	msg := receive(t, subscribe(t, client))
	run := client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
		_, err := pgmq.TxFromContext(msg.Context()).Exec(msg.Context(), "insert into effects values (1)")
		execute(t, pool, "update pgmq.q_t set read_ct = 2, last_read_at = now()") // a second run begins
		return nil, err
	})
	_, err := run(msg)
	require.ErrorIs(t, err, backend.ErrLeaseLost)
	require.Equal(t, 0, get[int](t, pool, "select count(*) from effects"))
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_t"))
	msg.Nack()
}

func TestTxMiddleware_RollsBackInterruptedRun(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	execute(t, pool, "create table effects (run int)")
	router := newRouter(client, ezq.Config{})
	ezq.Handle(router, func(ctx context.Context, _ transfer) error {
		if _, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects values (1)"); err != nil {
			return err
		}
		if err := ezq.Publish(ctx, client, ezq.InterruptEvent{}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}, ezq.Use(client.TxMiddleware()))
	require.NoError(t, ezq.Publish(t.Context(), client, transfer{}))
	require.ErrorIs(t, router.Run(t.Context()), ezq.ErrInterrupted)
	require.Equal(t, 0, get[int](t, pool, "select count(*) from effects"))
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_ezq where vt <= clock_timestamp()"))
}

func TestTxMiddleware_RefusesForeignMessages(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	_, err := client.TxMiddleware()(nil)(message.NewMessage("1", nil))
	require.ErrorContains(t, err, "not received from PGMQ")
	require.Nil(t, pgmq.TxFromContext(t.Context()))
}

func TestTxMiddleware_ReportsMissingOrEndedTransaction(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	err := ezq.Publish(t.Context(), client.WithTx(pgmq.TxFromContext(t.Context())), transferred{}) // without TxMiddleware
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, "ezq.Use(client.TxMiddleware())")

	publish(t, client, "a")
	msg := receive(t, subscribe(t, client))
	_, err = client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
		return nil, pgmq.TxFromContext(msg.Context()).Commit(msg.Context())
	})(msg)
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, `"t"`)
	require.ErrorContains(t, err, "leave it to TxMiddleware")
	msg.Nack()
}

// One transaction cannot ack a message for several handlers, nor several messages.
func TestTxMiddleware_RefusesSharedMessages(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	router := newRouter(client, ezq.Config{})
	var mu sync.Mutex
	refused := map[string]error{}
	observed := func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := next(msg)
			mu.Lock()
			defer mu.Unlock()
			refused[ezq.MetaFromContext(msg.Context()).Handler] = err
			if len(refused) == 2 {
				_ = ezq.Publish(context.Background(), client, ezq.EndEvent{}, ezq.Topic("several"))
			}
			return out, err
		}
	}
	errReached := errors.New("the handler runs")
	ezq.HandleBatch(router, func(context.Context, []transfer) error { return errReached }, ezq.Name("batch"), ezq.Use(observed, client.TxMiddleware()))
	ezq.Handle(router, func(context.Context, transfer) error { return errReached }, ezq.Name("one of two"), ezq.Use(observed, client.TxMiddleware()), ezq.Topic("several"))
	ezq.Handle(router, func(context.Context, transfer) error { return nil }, ezq.Name("other"), ezq.Topic("several"))
	require.NoError(t, ezq.Publish(t.Context(), client, transfer{}))
	require.NoError(t, ezq.Publish(t.Context(), client, transfer{}, ezq.Topic("several")))
	require.NoError(t, router.Run(t.Context()))
	for _, handler := range []string{"batch", "one of two"} {
		require.ErrorContains(t, refused[handler], "give this handler a topic of its own, and use Handle")
	}
	for _, table := range []string{"pgmq.q_ezq", "pgmq.q_several"} {
		require.Equal(t, 1, get[int](t, pool, "select count(*) from "+table), "nothing is lost")
	}
}

func TestWithSQLTx_PublishesInTransaction(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		now, later := message.NewMessage(fmt.Sprint(commit), []byte(`{"quoted\"": [1, "two"]}`)), message.NewMessage("later", nil)
		now.Metadata.Set("comma, brace}", `back\slash`)
		backend.SetDeliverAt(later, time.Now().Add(time.Hour))
		require.NoError(t, client.WithSQLTx(tx).Publish("t", now, later))
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
	}
	msg := receive(t, subscribe(t, client))
	require.Equal(t, "true", msg.UUID)
	require.Equal(t, `{"quoted\"": [1, "two"]}`, string(msg.Payload))
	require.Equal(t, `back\slash`, msg.Metadata.Get("comma, brace}"))
	msg.Ack()
	pool := pgtest.Pool(t, database)
	requireCount(t, pool, "pgmq.q_t where vt > now() + interval '59 minutes'", 1)
	requireCount(t, pool, "pgmq.q_t", 1)
}

var _ pgmq.DBTX = pgx.Tx(nil)
