package pgmq_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

// An archive that is gone, and a privilege that was revoked, are mended by an operator. Until
// then the events come again, and none of them has failed.
func TestTxMiddleware_RefusedTableCountsNoFailure(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spoil, mend, remedy string }{
		"the archive was dropped": {
			"drop table pgmq.a_t", "select pgmq.create('t'); grant all on pgmq.a_t to public",
			`create it with SELECT pgmq.create('t')`,
		},
		"nothing may be deleted": {
			"revoke delete on pgmq.q_t from public", "grant delete on pgmq.q_t to public",
			`GRANT SELECT, UPDATE, DELETE ON \"pgmq\".\"q_t\" TO`,
		},
		"nothing may be archived": {
			"revoke insert on pgmq.a_t from public", "grant insert on pgmq.a_t to public",
			`GRANT SELECT, INSERT ON \"pgmq\".\"a_t\" TO`,
		},
	} {
		for mode, run := range map[string]func(*testing.T, *ezq.Router) error{"Run": runRouter, "Attach": attachRouter} {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				env := newTxAckEnv(t)
				ended := make(chan error, 1)
				go func() { ended <- run(t, env.router) }()
				<-env.begun
				execute(t, env.pool, test.spoil)
				close(env.broken)
				pgtest.Eventually(t, patience, "each event is handled four times", func() bool { return env.handledAll(4) })
				require.Equal(t, 0, get[int](t, env.pool, "select count(*) from effects"), "the transactions are rolled back")
				require.Equal(t, 3, get[int](t, env.pool, "select count(*) from pgmq.q_t"), "nothing is a dead letter")
				execute(t, env.pool, test.mend)
				requireCount(t, env.pool, "pgmq.q_t", 0)
				require.Equal(t, 3, get[int](t, env.pool, "select count(*) from effects"), "each has its effect once")
				require.Equal(t, 3, get[int](t, env.pool, "select count(*) from pgmq.a_t where read_ct = 1"), "no delivery was counted")
				require.Zero(t, get[int](t, env.pool, "select count(*) from pgmq.a_t where headers->>'ezq_failures' <> '0'"), "nor a failure")
				logged := env.log.String()
				require.Contains(t, logged, test.remedy)
				require.NotContains(t, logged, "event failed")
				require.NoError(t, ezq.Publish(t.Context(), env.owner, ezq.EndEvent{}, ezq.Topic("t")))
				require.NoError(t, <-ended)
			})
		}
	}
}

// txAckEnv is a router with three events, whose role has what it has been granted.
type txAckEnv struct {
	owner  *pgmq.Client
	pool   *pgxpool.Pool
	router *ezq.Router
	log    *logRecorder

	once          sync.Once
	begun, broken chan struct{}

	mu      sync.Mutex
	handled map[int]int
}

func newTxAckEnv(t *testing.T) *txAckEnv {
	t.Helper()
	database := pgtest.Database(t)
	env := &txAckEnv{
		owner: openAt(t, database, pgmq.Config{}), pool: pgtest.Pool(t, database), log: &logRecorder{},
		begun: make(chan struct{}), broken: make(chan struct{}), handled: map[int]int{},
	}
	execute(t, env.pool, "select pgmq.create('t'), pgmq.create('t_dead'); create table effects (n int)")
	execute(t, env.pool, "grant all on all tables in schema pgmq to public; grant all on effects to public")
	for n := range 3 {
		require.NoError(t, ezq.Publish(t.Context(), env.owner, transfer{Amount: n}, ezq.Topic("t")))
	}
	logger := slog.New(slog.NewTextHandler(env.log, nil))
	client := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}"), pgmq.Config{
		Logger: logger, Subscriber: pgmq.SubscriberConfig{Archive: true, NoCreate: true},
	})
	env.router = ezq.NewRouter(client, &ezq.Config{Logger: logger, Concurrency: 2})
	env.router.Use(middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{MaxDeliveries: 3}.Middleware)
	ezq.Handle(env.router, env.handle, ezq.Topic("t"), ezq.Use(client.TxMiddleware()))
	return env
}

func (env *txAckEnv) handle(ctx context.Context, e transfer) error {
	env.once.Do(func() { close(env.begun) })
	<-env.broken
	env.mu.Lock()
	env.handled[e.Amount]++
	env.mu.Unlock()
	_, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into effects values ($1)", e.Amount)
	return err
}

func (env *txAckEnv) handledAll(times int) bool {
	env.mu.Lock()
	defer env.mu.Unlock()
	return env.handled[0] >= times && env.handled[1] >= times && env.handled[2] >= times
}

func runRouter(t *testing.T, router *ezq.Router) error { return router.Run(t.Context()) }

func attachRouter(t *testing.T, router *ezq.Router) error {
	w, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	if err := router.Attach(w); err != nil {
		return err
	}
	return w.Run(t.Context())
}

// A transaction that waits for a row keeps a connection, which publishers of other topics want.
func TestTxMiddleware_WaitsForALockedRowForSecondsOnly(t *testing.T) {
	t.Parallel()
	env := newTxAckEnv(t)
	go func() { _ = runRouter(t, env.router) }()
	<-env.begun
	tx, err := env.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "select 1 from pgmq.q_t for update")
	require.NoError(t, err)
	close(env.broken)
	env.log.requireLogged(t, "the ack in a handler's transaction is refused")
	require.Contains(t, env.log.String(), "pg_stat_activity")
	require.NoError(t, tx.Rollback(t.Context()))
	requireCount(t, env.pool, "pgmq.q_t", 0)
	require.Equal(t, 3, get[int](t, env.pool, "select count(*) from effects"))
	require.Zero(t, get[int](t, env.pool, "select count(*) from pgmq.a_t where (headers->>'ezq_failures')::int > 0 or read_ct > 1"))
	require.Zero(t, get[int](t, env.pool, "select count(*) from pgmq.q_t_dead"))
}

func TestTxMiddleware_SaysThatATriggerKeepsTheMessage(t *testing.T) {
	t.Parallel()
	env := newTxAckEnv(t)
	execute(t, env.pool, `create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
		create trigger keep before delete on pgmq.q_t for each row execute function keep()`)
	go func() { _ = runRouter(t, env.router) }()
	close(env.broken)
	env.log.requireLogged(t, "BEFORE DELETE trigger")
	require.NotContains(t, env.log.String(), "lease lost")
	execute(t, env.pool, "drop trigger keep on pgmq.q_t")
	requireCount(t, env.pool, "pgmq.q_t", 0)
	require.Equal(t, 3, get[int](t, env.pool, "select count(*) from effects"))
	require.Zero(t, get[int](t, env.pool, "select count(*) from pgmq.q_t_dead"))
}
