package pgmq_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

// cancelRunning cancels the message a of topic.
func cancelRunning(t *testing.T, client *pgmq.Client, topic string) backend.Cancelled {
	t.Helper()
	found, err := client.CancelRunning(t.Context(), topic, backend.Selection{ID: "a"})
	require.NoError(t, err)
	return found
}

// requireCancelled waits until the context of msg has ended, and returns how long that took.
func requireCancelled(t *testing.T, msg *message.Message) time.Duration {
	t.Helper()
	start := time.Now()
	select {
	case <-msg.Context().Done():
	case <-time.After(patience):
		require.Fail(t, "the context of the message has not ended")
	}
	require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrCancelled)
	return time.Since(start)
}

func TestCancelRunning_IsHeardOfByOtherProcesses(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"a message that was locked first": false, "a message that is leased": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			log := &logRecorder{}
			consumer := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: leaseOnly}, Logger: log.logger()})
			operator, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
			messages := subscribe(t, consumer)
			publishOn(t, operator, "a", unique("k"), 0)
			msg := receive(t, messages)
			require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, operator, "t"))
			require.Less(t, requireCancelled(t, msg), 5*time.Second, "long before its lease is extended")
			require.Equal(t, backend.PublishStored, publishOn(t, operator, "b", unique("k"), 0).Outcome, "its key is free")
			receive(t, messages).Ack()
			backend.Nack(msg, backend.Redelivery{Failures: 1})
			requireCount(t, pool, "pgmq.q_t", 0)
			require.Equal(t, backend.Cancelled{}, cancelRunning(t, operator, "t"), "it is gone")
			stats := consumer.Stats()["t"]
			require.EqualValues(t, 1, stats.Cancelled)
			require.Zero(t, stats.LeasesLost)
			require.Contains(t, log.String(), "ezq: a message was cancelled while a consumer had it")
		})
	}
}

func TestCancelRunning_StopsWhatWasLockedFirst(t *testing.T) {
	client, pool, messages := openLocking(t, 50*time.Millisecond, pgmq.SubscriberConfig{})
	execute(t, pool, `insert into pgmq.q_t (vt, enqueued_at, message, headers) values (now(), now() - interval '1 hour', '{}', '{"ezq_uuid": "a"}')`)
	msg := receive(t, messages)
	require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, client, "t"))
	requireCancelled(t, msg)
	msg.Nack()
}

func TestCancelRunning_IsNoticedWithTheNextExtension(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	consumer := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true, NoListen: true, Lease: 3 * time.Second}})
	messages := subscribe(t, consumer)
	publish(t, consumer, "a")
	msg := receive(t, messages)
	require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, openAt(t, database, pgmq.Config{}), "t"))
	requireCancelled(t, msg)
	msg.Nack()
}

// The handler is told whatever has removed its message, and so is that of a queue that is purged.
func TestCancelRunning_IsWhatAnyRemovalIs(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true, Lease: 2 * time.Second}})
	messages := subscribe(t, client)
	for range 2 {
		publish(t, client, "a")
	}
	first, second := receive(t, messages), receive(t, messages)
	execute(t, pool, "select pgmq.archive('t', 1)")
	requireCancelled(t, first)
	require.NoError(t, second.Context().Err())
	deleted, err := client.PurgeQueue(t.Context(), "t")
	require.NoError(t, err)
	require.Equal(t, 1, deleted)
	requireCancelled(t, second)
	first.Ack()
	second.Ack()
}

func TestCancelRunning_StopsInEachGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	mail, bills := group(t, database, "mail"), group(t, database, "bills")
	require.NoError(t, bills.SubscribeInitialize("t"))
	messages := subscribe(t, mail)
	publish(t, openAt(t, database, pgmq.Config{}), "a")
	msg := receive(t, messages)
	require.Equal(t, backend.Cancelled{Removed: 1, Stopped: 1}, cancelRunning(t, bills, "t"))
	requireCancelled(t, msg)
	msg.Nack()
}

func TestCancelRunning_DoesNotWaitForLongForWhatIsLocked(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a", "b")
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select from pgmq.q_t where msg_id = 1 for update")
		require.NoError(t, err)
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		found, err := client.CancelRunning(ctx, "t", backend.Selection{ID: "a"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Busy: 1}, found)
		return nil
	}))
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelRunning(t, client, "t"))
	_, err := client.CancelRunning(t.Context(), "t", backend.Selection{Event: "E"})
	require.ErrorAs(t, err, new(*backend.RefusedError))
}

func TestCancelRunning_NeedsTheRightsOfCancel(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}}), pgtest.Pool(t, database)
	publish(t, client, "a")
	msg := receive(t, subscribe(t, client))
	const reading = "grant usage on schema pgmq to {role}; grant select on all tables in schema pgmq to {role};"
	_, err := openAt(t, pgtest.Role(t, database, reading), pgmq.Config{}).CancelRunning(t.Context(), "t", backend.Selection{ID: "a"})
	require.ErrorIs(t, err, pgmq.ErrPermission)
	requireCount(t, pool, "pgmq.q_t", 1)
	may := openAt(t, pgtest.Role(t, database, reading, "grant update, delete on pgmq.q_t to {role}"), pgmq.Config{})
	require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, may, "t"))
	requireCancelled(t, msg)
	msg.Nack()
}

// After a cancel the handler is not tried again, and its event is no dead letter.
func TestCancelRunning_EndsRouterHandlerForGood(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, operator := openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{})
	pool := pgtest.Pool(t, database)
	router := newRouter(client, ezq.Config{})
	router.Use(middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{}.Middleware)
	begun := make(chan struct{})
	var calls atomic.Int64
	ezq.Handle(router, func(ctx context.Context, _ transfer) error {
		if calls.Add(1) == 1 {
			close(begun)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	require.NoError(t, ezq.Publish(t.Context(), client, transfer{}, ezq.ID("a")))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	<-begun
	require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, operator, ezq.DefaultTopic))
	pgtest.Eventually(t, patience, "the handler has ended", func() bool { return router.Stats()[ezq.DefaultTopic].Cancelled == 1 })
	stop()
	require.NoError(t, <-ended)
	require.EqualValues(t, 1, calls.Load())
	requireCount(t, pool, "pgmq.q_ezq", 0)
	require.False(t, get[bool](t, pool, "select exists (select from pgmq.meta where queue_name = 'ezq_dead')"))
}

// Of the effect of a handler with a transaction, and the cancel of its event, exactly one happens.
func TestCancelRunning_ExcludesTheEffectOfTransactions(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client, pool := openAt(t, database, pgmq.Config{}), pgtest.Pool(t, database)
	operator := openAt(t, database, pgmq.Config{})
	execute(t, pool, "create table effects (id text)")
	var cancelling sync.WaitGroup
	var cancelled sync.Map // whether the cancel has found the event, by its ID
	cancel := func(id string) {
		found, err := operator.CancelRunning(context.WithoutCancel(t.Context()), ezq.DefaultTopic, backend.Selection{ID: id})
		if err != nil || found.Busy+found.Removed > 0 {
			t.Errorf("%+v, %v", found, err)
		}
		cancelled.Store(id, found.Stopped == 1)
	}
	router := newRouter(client, ezq.Config{Concurrency: 3})
	ezq.Handle(router, func(ctx context.Context, e transfer) error {
		id := ezq.MetaFromContext(ctx).ID
		_, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects values ($1)", id)
		switch e.Amount % 3 {
		case 0:
			cancel(id)
		case 1: // at the same time as the commit
			cancelling.Go(func() { cancel(id) })
		}
		return err
	}, ezq.Use(client.TxMiddleware()))
	const all = 300
	for n := range all {
		require.NoError(t, ezq.Publish(t.Context(), client, transfer{Amount: n}, ezq.ID(fmt.Sprint(n))))
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	requireCount(t, pool, "pgmq.q_ezq", 0)
	stop()
	require.NoError(t, <-ended)
	cancelling.Wait()
	effects := map[string]int{}
	for _, id := range get[[]string](t, pool, "select coalesce(array_agg(id), '{}') from effects") {
		effects[id]++
	}
	for n := range all {
		id, want := fmt.Sprint(n), 1
		if is, _ := cancelled.Load(id); is == true {
			want = 0
		}
		require.Equal(t, want, effects[id], id)
	}
	t.Logf("of %d events %d took effect", all, len(effects))
	require.GreaterOrEqual(t, len(effects), all/3)
	require.LessOrEqual(t, len(effects), all-all/3)
}

func TestCancelRunning_RollsBackTransactionThatIsBeingHandled(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoListen: true}})
	execute(t, pool, "create table effects (run int)")
	publish(t, client, "a")
	msg := receive(t, subscribe(t, client))
	run := client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
		_, err := pgmq.TxFromContext(msg.Context()).Exec(msg.Context(), "insert into effects values (1)")
		execute(t, pool, "delete from pgmq.q_t") // as a cancel in another process that this one has not heard of
		return nil, err
	})
	_, err := run(msg)
	require.ErrorIs(t, err, backend.ErrLeaseLost)
	require.Equal(t, 0, get[int](t, pool, "select count(*) from effects"))
	msg.Nack()
}
