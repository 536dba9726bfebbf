package pgmq_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/faultproxy"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestClient_LosesNothingWhenServerProcessIsKilled(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t)
	requireNothingLost(t, server.URL(), server.KillOne)
}

// A publish to a full disk is rejected. Consumers cannot lease either, and go on
// by themselves when there is room again.
func TestFullDisk_RejectsPublishAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t)
	pool := pgtest.Pool(t, server.URL())
	server.SmallDisk("small", 16)
	server.Execute("select pgmq.create('t')", "alter table pgmq.q_t set tablespace small")
	client := openAt(t, server.URL(), pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: 2 * time.Second}})
	publish(t, client, "held")
	messages := subscribe(t, client)
	held := receive(t, messages)

	execute(t, pool, "create table filler (t text) tablespace small; alter table filler alter t set storage plain")
	stored := map[string]bool{}
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		// What remains is filled by the queue itself: half a page a message.
		for full := false; !full; {
			_, full = failure(pool.Exec(t.Context(), "insert into filler select repeat('x', 8000) from generate_series(1, 50)"))
		}
		id := fmt.Sprint("m", n)
		if err = client.Publish("t", message.NewMessage(id, []byte(incompressible(4000)))); err == nil {
			stored[id] = true
		}
	}
	require.ErrorIs(t, err, pgmq.ErrRejected)
	var cause *pgconn.PgError
	require.ErrorAs(t, err, &cause)
	require.Equal(t, "53100", cause.Code)

	held.Ack() // takes no room
	pgtest.Eventually(t, patience, "the ack is stored", func() bool {
		return get[int](t, pool, "select count(*) from pgmq.q_t where headers->>'ezq_uuid' = $1", held.UUID) == 0
	})
	execute(t, pool, "drop table filler")
	publish(t, client, "after")
	delete(stored, "held")
	for len(stored) > 0 {
		msg := receive(t, messages)
		delete(stored, msg.UUID)
		msg.Ack()
	}
	requireCountWhileAcking(t, pool, messages)
}

// failure reports whether there was an error.
func failure[T any](value T, err error) (T, bool) { return value, err != nil }

// incompressible returns text that PostgreSQL stores at its full length.
func incompressible(n int) string {
	var text strings.Builder
	for text.Len() < n {
		text.WriteString(rand.Text())
	}
	return text.String()[:n]
}

// requireCountWhileAcking acks what else arrives until the queue t is empty.
func requireCountWhileAcking(t *testing.T, pool *pgxpool.Pool, messages <-chan *message.Message) {
	t.Helper()
	pgtest.Eventually(t, patience, "the queue is empty", func() bool {
		select {
		case msg := <-messages:
			msg.Ack()
		default:
		}
		return get[int](t, pool, "select count(*) from pgmq.q_t") == 0
	})
}

func TestPublish_IsRejectedOnLockTimeout(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client := openAt(t, database+"&lock_timeout=200", pgmq.Config{})
	publish(t, client, "a")
	release := lockTable(t, pool)
	err := client.Publish("t", message.NewMessage("b", nil))
	require.ErrorIs(t, err, pgmq.ErrRejected)
	var cause *pgconn.PgError
	require.ErrorAs(t, err, &cause)
	require.Equal(t, "55P03", cause.Code)
	messages := subscribe(t, client) // its claims fail too, for now
	waitFor(t, 500*time.Millisecond)
	release()
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

// lockTable makes all sessions wait that use the queue t.
func lockTable(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test fails
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_t")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

func TestClient_LosesNothingAtIsolationLevelOfRole(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	role := pgtest.Role(t, database, "grant all on schema pgmq to {role}", "grant all on all tables in schema pgmq to {role}",
		"grant all on all sequences in schema pgmq to {role}", "grant pg_read_all_stats to {role}",
		"alter role {role} set default_transaction_isolation = 'serializable'")
	requireNothingLost(t, role, func() {})
}

func TestListener_SurvivesIdleSessionTimeout(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	messages := subscribe(t, openWithoutPolling(t, database+"&idle_session_timeout=1000"))
	publisher := openAt(t, database, pgmq.Config{})
	for n := range 3 {
		waitFor(t, 1500*time.Millisecond)
		publish(t, publisher, fmt.Sprint(n))
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestListener_ReconnectsWithBackoff(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	messages := subscribe(t, openWithoutPolling(t, database))
	requireListening(t, pool)
	seen := map[int]bool{}
	const during = 3 * time.Second
	for start := time.Now(); time.Since(start) < during; {
		rows, err := pool.Query(t.Context(), `with listening as materialized (select pid from pg_stat_activity
			where datname = current_database() and (query ilike 'listen%' or query = '-- ping'))
			select pid from listening where pg_terminate_backend(pid)`)
		require.NoError(t, err)
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(t, err)
		for _, pid := range pids {
			seen[pid] = true
		}
		waitFor(t, 5*time.Millisecond)
	}
	t.Logf("%d connections in %v", len(seen), during)
	require.Less(t, len(seen), 40)
	requireListening(t, pool)
	publish(t, openAt(t, database, pgmq.Config{}), "a")
	receive(t, messages).Ack()
}

// The commit is carried out, and its answer is lost: the event counts as failed,
// is gone, and its effect has happened once.
func TestTxMiddleware_LostCommitReplyAppliesOnce(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: 2 * time.Second}})
	router := newRouter(client, ezq.Config{})
	began := make(chan struct{}, 10)
	ezq.Handle(router, func(ctx context.Context, _ userCreated) error {
		began <- struct{}{}
		_, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects values (1)")
		return err
	}, ezq.Use(client.TxMiddleware()))
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{}))
	release := blockCommits(t, pool)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()

	pgtest.Eventually(t, patience, "the commit is there", func() bool {
		return get[bool](t, pool, `select count(*) > 0 from pg_stat_activity
			where datname = current_database() and query = 'commit' and wait_event_type = 'Lock'`)
	})
	proxy.Swallow(faultproxy.ToClient)
	release()
	requireCount(t, pool, "effects", 1)
	pgtest.Eventually(t, patience, "the answer is lost", func() bool { return proxy.Swallowed() > 0 })
	proxy.Heal()
	proxy.ResetAll()

	require.NoError(t, ezq.Publish(t.Context(), openAt(t, direct, pgmq.Config{}), userCreated{}))
	requireCount(t, pool, "effects", 2)
	requireCount(t, pool, "pgmq.q_ezq", 0)
	stop()
	require.NoError(t, <-ended)
	require.Len(t, began, 2, "the first event was not delivered again")
}

// blockCommits makes transactions that write to the new table effects wait when
// they commit.
func blockCommits(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	execute(t, pool, `create table effects (id int);
		create function hold() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock(1); return null; end';
		create constraint trigger hold after insert on effects deferrable initially deferred for each row execute function hold()`)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test fails
	_, err = tx.Exec(t.Context(), "select pg_advisory_xact_lock(1)")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

func TestMaxExtension_EndsLeaseOfHangingHandler(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{
		Lease: time.Second, MaxExtension: 2 * time.Second, DrainTimeout: time.Millisecond,
	}})
	publish(t, client, "a")
	messages := subscribe(t, client)
	stuck := receive(t, messages)
	again := receive(t, messages) // while the first one is still not answered
	require.ErrorIs(t, context.Cause(stuck.Context()), backend.ErrLeaseLost)
	require.Equal(t, stuck.UUID, again.UUID)
	require.Equal(t, 2, delivery(again).Number)
	again.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestPanic_CostsOneDelivery(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	router := newRouter(client, ezq.Config{})
	ctx, stop := context.WithCancel(t.Context())
	ezq.Handle(router, func(ctx context.Context, _ userCreated) error {
		if ezq.MetaFromContext(ctx).Delivery == 1 {
			panic(errors.New("boom"))
		}
		stop()
		return nil
	})
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{}))
	require.NoError(t, router.Run(ctx))
	requireCount(t, pool, "pgmq.q_ezq", 0)
}
