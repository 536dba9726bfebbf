package pgmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// openLocking returns a client whose subscription locks the messages that it receives from now on, for so long.
func openLocking(t *testing.T, d time.Duration, config pgmq.SubscriberConfig) (*pgmq.Client, *pgxpool.Pool, <-chan *message.Message) {
	t.Helper()
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: config})
	client.LockFor(d)
	messages := subscribe(t, client)
	warmUp(t, client, messages)
	requireCount(t, pool, "pgmq.q_t", 0)
	return client, pool, messages
}

// warmUp acks as many messages as it takes.
func warmUp(t *testing.T, client *pgmq.Client, messages <-chan *message.Message) {
	t.Helper()
	for range 10 {
		publish(t, client, "before")
		receive(t, messages).Ack()
	}
}

// requireLocked receives a message that is locked and not leased. Where the machine is busy, earlier acks
// may have come so late that some are leased first.
func requireLocked(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, messages <-chan *message.Message) *message.Message {
	t.Helper()
	for range 100 {
		publish(t, client, "locked")
		msg := receive(t, messages)
		require.Equal(t, 1, delivery(msg).Number)
		if get[int](t, pool, "select count(*) from pgmq.q_t where read_ct = 0 and vt <= now()") == 1 {
			return msg
		}
		msg.Ack()
		requireCount(t, pool, "pgmq.q_t", 0)
	}
	require.FailNow(t, "no message is locked")
	return nil
}

func TestLock_WritesNothingUntilRemoval(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{})
	msg := requireLocked(t, client, pool, messages)
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.read('t', 30, 10)"), "others pass it by")
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.pop('t')"))
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestLock_ArchivesAckedMessage(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{Archive: true})
	requireLocked(t, client, pool, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	requireCount(t, pool, "pgmq.a_t where read_ct = 0", 1)
}

func TestLock_BecomesLeaseAfterItsTime(t *testing.T) {
	client, pool, messages := openLocking(t, 200*time.Millisecond, pgmq.SubscriberConfig{})
	msg := requireLocked(t, client, pool, messages)
	requireCount(t, pool, "pgmq.q_t where read_ct = 1 and vt > now() + interval '20 seconds'", 1)
	require.NoError(t, msg.Context().Err())
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

// endLocks ends all transactions that are open and do nothing, as a network that fails does,
// and that have locked a message: another one may be looking for messages just now.
const endLocks = `select count(pg_terminate_backend(pid)) from pg_stat_activity
	where datname = current_database() and state = 'idle in transaction' and backend_xid is not null`

func TestLockedBatch_LostConnectionFreesMessagesAtOnce(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{Lease: time.Hour})
	lost := requireLocked(t, client, pool, messages)
	publish(t, client, "acked")
	acked := receive(t, messages)
	require.Equal(t, 2, get[int](t, pool, endLocks), "each is in a locked batch of its own")

	owner := openAt(t, pool.Config().ConnString(), pgmq.Config{})
	others := subscribe(t, owner)
	again := receive(t, others)
	require.Equal(t, 1, delivery(again).Number, "no consumer has leased it before")
	acked.Ack()
	lost.Nack()
	again.Ack()
	receive(t, others).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

// A handler is told, so that it can stop, when its lock turns out to be lost.
func TestLockedBatch_LossEndsContext(t *testing.T) {
	client, pool, messages := openLocking(t, 2*time.Second, pgmq.SubscriberConfig{})
	msg := requireLocked(t, client, pool, messages)
	require.Equal(t, 1, get[int](t, pool, endLocks))
	<-msg.Context().Done()
	require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrLeaseLost)
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestLockedBatch_OfStoppedProcessEndsAfterLease(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, owner := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	zombie := startChild(t, locksMessage, database)
	require.Equal(t, "warm", zombie.next(t))
	requireCount(t, pool, "pgmq.q_t", 0)
	publish(t, owner, "a")
	require.Equal(t, "a", zombie.next(t))
	zombie.signal(t, syscall.SIGSTOP)

	start := time.Now()
	msg := receive(t, subscribe(t, owner))
	took := time.Since(start)
	require.Less(t, took, time.Second+recovery(t, database), "the lease is a second")
	row := func() string { return get[string](t, pool, "select m::text from pgmq.q_t m") }
	before := row()
	zombie.signal(t, syscall.SIGCONT)
	require.Equal(t, "closed", zombie.next(t), "which stores what is settled")
	require.Equal(t, before, row(), "the owner's message")
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestTxMiddleware_LeasesLockedMessage(t *testing.T) {
	client, pool, messages := openLocking(t, time.Hour, pgmq.SubscriberConfig{})
	execute(t, pool, "create table effects (id text)")
	msg := requireLocked(t, client, pool, messages)
	_, err := client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
		_, err := pgmq.TxFromContext(msg.Context()).Exec(msg.Context(), "insert into effects values ($1)", msg.UUID)
		return nil, err
	})(msg)
	require.NoError(t, err)
	requireCount(t, pool, "pgmq.q_t", 0)
	requireCount(t, pool, "effects", 1)
	msg.Ack()
	publish(t, client, "next")
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
	require.Zero(t, client.Stats()["t"].Gone)
}

func TestLock_DelaysOthersOnlyWhileLocked(t *testing.T) {
	client, pool, messages := openLocking(t, 200*time.Millisecond, pgmq.SubscriberConfig{})
	msg := requireLocked(t, client, pool, messages)
	start := time.Now()
	require.True(t, get[bool](t, pool, "select pgmq.delete('t', (select max(msg_id) from pgmq.q_t))"))
	require.Less(t, time.Since(start), 15*time.Second, "half of a lease")
	msg.Ack()
	pgtest.Eventually(t, patience, "the ack finds nothing", func() bool { return client.Stats()["t"].Gone == 1 })
}

// Handlers succeed, fail, are slow, and use transactions, in two processes' worth of consumers.
// Meanwhile no session waits for a lock while it has others, so none waits for long. The lock to
// make a table larger ("extend") is not kept until the transaction ends.
func TestLockedBatch_CausesNoLongLockWaits(t *testing.T) {
	t.Parallel()
	const events = 3000
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create table effects (id text primary key)")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 2 {
		client := openAt(t, database, pgmq.Config{})
		router := ezq.NewRouter(client, &ezq.Config{Concurrency: 20, Logger: slog.New(slog.DiscardHandler)})
		ezq.Handle(router, func(_ context.Context, e userCreated) error { return failSometimes(e) }, ezq.Topic("t"))
		ezq.Handle(router, func(ctx context.Context, e paid) error {
			_, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects values ($1)", e.ID)
			return err
		}, ezq.Topic("payments"), ezq.Use(client.TxMiddleware()))
		running.Go(func() { assert.NoError(t, router.Run(ctx)) })
	}
	client := openAt(t, database, pgmq.Config{})
	for i := range events / 100 {
		var users []userCreated
		var payments []paid
		for j := range 100 {
			users = append(users, userCreated{Email: fmt.Sprint(i, j)})
			payments = append(payments, paid{ID: fmt.Sprint(i, j)})
		}
		require.NoError(t, ezq.PublishBatch(t.Context(), client, users, ezq.Topic("t")))
		require.NoError(t, ezq.PublishBatch(t.Context(), client, payments, ezq.Topic("payments")))
	}
	pgtest.Eventually(t, 2*patience, "all are handled", func() bool {
		require.Empty(t, get[string](t, pool, `
			select coalesce(string_agg(wait_event || ': ' || query, E'\n'), '') from pg_stat_activity a
			where datname = current_database() and wait_event_type = 'Lock' and wait_event <> 'extend' and exists (
				select from pg_locks l where l.pid = a.pid and l.granted and l.mode = 'RowShareLock')
			and query not like '%for update) m%'`), "a lock waits") // the ack of TxMiddleware does, for one row
		return get[int](t, pool, "select (select count(*) from pgmq.q_t) + (select count(*) from pgmq.q_payments)") == 0
	})
	stop()
	running.Wait()
	requireCount(t, pool, "effects", events)
	require.Zero(t, get[int](t, pool, "select deadlocks from pg_stat_database where datname = current_database()"))
}

type paid struct{ ID string }

func failSometimes(e userCreated) error {
	switch rand.IntN(50) {
	case 0:
		return fmt.Errorf("%s has failed", e.Email)
	case 1:
		slow := time.NewTimer(70 * time.Millisecond)
		<-slow.C
	}
	return nil
}

// An open transaction keeps what was deleted, which makes looking slow; what is released
// to its place then is found all the same.
func TestClaim_FindsMessagesBehindDeadRows(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 500}})
	publish(t, client, "first")
	pinned, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = pinned.Exec(t.Context(), "set transaction isolation level repeatable read; select 1")
	require.NoError(t, err)
	execute(t, pool, `insert into pgmq.q_t (vt, message) select clock_timestamp(), '"x"' from generate_series(1, 50000)`)
	messages, seen := subscribe(t, client), 0
	for range 25_000 {
		receive(t, messages).Ack()
	}
	execute(t, pool, `insert into pgmq.q_t (vt, message) select enqueued_at, '"late"' from pgmq.q_t order by 1 limit 1`)
	execute(t, pool, `insert into pgmq.q_t (vt, message) values (now() - interval '1 hour', '"late"')`)
	for seen < 2 {
		msg := receive(t, messages)
		if string(msg.Payload) == `"late"` {
			seen++
		}
		msg.Ack()
	}
	require.NoError(t, pinned.Rollback(t.Context()))
}
