package pgmq_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/faultproxy"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// throughProxy returns a proxy in front of the server, and the URL of the
// database through it.
func throughProxy(t *testing.T, database string) (*faultproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	proxy := faultproxy.Start(t, u.Host)
	u.Host = proxy.Address()
	return proxy, u.String()
}

// loseReply lets the server act on what do sends, and loses its reply. The
// request waits at the server for a lock until its reply cannot get through.
func loseReply(t *testing.T, proxy *faultproxy.Proxy, pool *pgxpool.Pool, do func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test fails
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_t in exclusive mode")
	require.NoError(t, err)
	do()
	const writing = `from pg_stat_activity where datname = current_database() and query ~ '(insert into|delete from) "pgmq"."q_t'`
	pgtest.Eventually(t, patience, "the request is there", func() bool {
		return get[bool](t, pool, "select count(*) > 0 "+writing+" and wait_event_type = 'Lock'")
	})
	proxy.Swallow(faultproxy.ToClient)
	require.NoError(t, tx.Rollback(t.Context()))
	pgtest.Eventually(t, patience, "the server has acted", func() bool {
		return get[bool](t, pool, "select count(*) = 0 "+writing+" and state = 'active' and pid <> pg_backend_pid()") && proxy.Swallowed() > 0
	})
	proxy.Heal()
	proxy.ResetAll()
}

func TestPublish_LostReplyIsUnknownOutcomeWithoutRepeat(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database+"&pool_max_conns=1", pgmq.Config{}) // on another connection, the reply to its Parse could be the one that is lost
	publish(t, client, "before")
	result := make(chan error, 1)
	loseReply(t, proxy, pool, func() { go func() { result <- client.Publish("t", message.NewMessage("a", nil)) }() })
	err := <-result
	require.ErrorIs(t, err, pgmq.ErrUnknownOutcome)
	require.NotErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorIs(t, err, pgmq.ErrUnreachable)
	requireCount(t, pool, "pgmq.q_t", 2) // it is stored, or about to be
	publish(t, client, "after")
	requireCount(t, pool, "pgmq.q_t", 3)
}

func TestAck_LostReplyIsRepeatedWithoutRedelivery(t *testing.T) {
	t.Parallel()
	const n = 50
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database, pgmq.Config{})
	for i := range n {
		publish(t, client, fmt.Sprint(i))
	}
	messages := subscribe(t, client)
	var got []*message.Message
	for range n {
		got = append(got, receive(t, messages))
	}
	loseReply(t, proxy, pool, func() {
		for _, msg := range got {
			msg.Ack()
		}
	})
	requireCount(t, pool, "pgmq.q_t", 0)
	publish(t, openAt(t, direct, pgmq.Config{}), "after")
	msg := receive(t, messages)
	require.Equal(t, "after", msg.UUID, "nothing came twice")
	msg.Ack()
}

func TestLease_EndsHandlerFirstInBlackhole(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: 2 * time.Second, MaxInFlight: 1}})
	publish(t, client, "a")
	messages := subscribe(t, client)
	msg := receive(t, messages)

	proxy.Stall(faultproxy.Both)
	<-msg.Context().Done()
	ended := time.Now()
	require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrLeaseLost)
	const lateness = 100 * time.Millisecond // of a busy machine's scheduler
	require.WithinRange(t, ended, time.Time{}, get[time.Time](t, pool, "select vt from pgmq.q_t").Add(lateness), "no other consumer can have it yet")
	pgtest.Eventually(t, patience, "its lease runs out", func() bool {
		return get[bool](t, pool, "select vt < clock_timestamp() from pgmq.q_t")
	})
	proxy.Heal()
	healed := time.Now()
	again := receive(t, messages)
	took := time.Since(healed)
	t.Log("delivered again", took, "after the network came back")
	require.Less(t, took, recovery(t, direct))
	require.GreaterOrEqual(t, delivery(again).Number, 2) // 3 if the reply to a claim was too late
	msg.Ack()                                            // by then a zombie's
	again.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestClose_ReturnsDespiteDeadNetwork(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	proxy, database := throughProxy(t, direct)
	client := openAt(t, database, pgmq.Config{})
	publish(t, client, "a", "b")
	messages := subscribe(t, client)
	receive(t, messages)
	requireListening(t, pgtest.Pool(t, direct))
	msg := receive(t, messages)
	proxy.Stall(faultproxy.Both)
	msg.Ack()
	start := time.Now()
	require.NoError(t, client.Close())
	t.Log("closed in", time.Since(start))
	require.Less(t, time.Since(start), closeBound+5*time.Second, "5 seconds for the handler that does not return")
}

func TestListener_NoticesHalfOpenConnection(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	pool := pgtest.Pool(t, direct)
	proxy, database := throughProxy(t, direct)
	messages := subscribe(t, openWithoutPolling(t, database))
	requireListening(t, pool)
	pids := func() string {
		return get[string](t, pool, `select coalesce(string_agg(pid::text, ',' order by pid), '') from pg_stat_activity
			where datname = current_database() and (query ilike 'listen%' or query = '-- ping')`)
	}
	before := pids()
	proxy.Orphan()
	cut := time.Now()
	pgtest.Eventually(t, patience, "another connection listens", func() bool { return pids() != before })
	t.Log("noticed after", time.Since(cut))
	require.Less(t, time.Since(cut), 12*time.Second, "a ping after 5 seconds of silence, which is given 5")
	publish(t, openAt(t, direct, pgmq.Config{}), "a")
	receive(t, messages).Ack()
}

// Each of these goes on for a moment while messages are published and consumed.
func TestClient_LosesNothingInFailingNetwork(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(t *testing.T, proxy *faultproxy.Proxy){
		"connections are reset again and again": func(t *testing.T, proxy *faultproxy.Proxy) {
			for range 10 {
				waitFor(t, 50*time.Millisecond)
				proxy.ResetAll()
			}
		},
		"replies are lost": func(t *testing.T, proxy *faultproxy.Proxy) {
			for range 5 {
				proxy.Swallow(faultproxy.ToClient)
				waitFor(t, 50*time.Millisecond)
				proxy.Heal()
				proxy.ResetAll()
				waitFor(t, 100*time.Millisecond)
			}
		},
		"requests are cut short": func(t *testing.T, proxy *faultproxy.Proxy) {
			for n := range 10 {
				proxy.CutAfter(faultproxy.ToServer, int64(100*n+1))
				waitFor(t, 50*time.Millisecond)
			}
		},
		"replies are cut short": func(t *testing.T, proxy *faultproxy.Proxy) {
			for n := range 10 {
				proxy.CutAfter(faultproxy.ToClient, int64(50*n+1))
				waitFor(t, 50*time.Millisecond)
			}
		},
		"no connection for longer than a lease": func(t *testing.T, proxy *faultproxy.Proxy) {
			proxy.Refuse()
			proxy.ResetAll()
			waitFor(t, 4*time.Second)
			proxy.Heal()
		},
		"everything stalls for longer than a lease": func(t *testing.T, proxy *faultproxy.Proxy) {
			proxy.Stall(faultproxy.Both)
			waitFor(t, 4*time.Second)
			proxy.Heal()
		},
		"requests stall": func(t *testing.T, proxy *faultproxy.Proxy) {
			proxy.Stall(faultproxy.ToServer)
			waitFor(t, time.Second)
			proxy.Heal()
		},
		"replies stall": func(t *testing.T, proxy *faultproxy.Proxy) {
			proxy.Stall(faultproxy.ToClient)
			waitFor(t, time.Second)
			proxy.Heal()
		},
		"everything takes long": func(t *testing.T, proxy *faultproxy.Proxy) {
			proxy.Latency(30 * time.Millisecond)
			waitFor(t, time.Second)
			proxy.Heal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, database := throughProxy(t, pgtest.Database(t))
			requireNothingLost(t, database, func() { fail(t, proxy) })
		})
	}
}

// waitFor lets a fault last.
func waitFor(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func TestClient_LosesNothingWhenBackendsAreTerminated(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	requireNothingLost(t, database, func() {
		for range 10 {
			execute(t, pool, `select pg_terminate_backend(pid) from pg_stat_activity
				where datname = current_database() and pid <> pg_backend_pid() and random() < 0.5`)
			waitFor(t, 50*time.Millisecond)
		}
	})
}

func TestClient_LosesNothingWithoutFreeConnections(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	role := pgtest.Role(t, database, "grant all on schema pgmq to {role}", "grant all on all tables in schema pgmq to {role}",
		"grant all on all sequences in schema pgmq to {role}", "grant pg_read_all_stats to {role}")
	u, err := url.Parse(role)
	require.NoError(t, err)
	limit := func(n int) {
		execute(t, pool, fmt.Sprintf("alter role %s connection limit %d", u.User.Username(), n))
	}
	requireNothingLost(t, role, func() {
		limit(1)
		execute(t, pool, fmt.Sprintf("select pg_terminate_backend(pid) from pg_stat_activity where usename = '%s'", u.User.Username()))
		waitFor(t, time.Second)
		limit(-1)
	})
}

func TestPublish_IsRejectedOnStatementTimeout(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	publish(t, openAt(t, database, pgmq.Config{}), "a")
	client := openAt(t, database+"&statement_timeout=1000", pgmq.Config{})
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if the test fails
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_t")
	require.NoError(t, err)
	err = client.Publish("t", message.NewMessage("b", nil))
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, "statement_timeout")
	messages := subscribe(t, client) // its claims fail too, for now
	waitFor(t, 500*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestClient_LosesNothingAtIsolationLevelFromURL(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"serializable", "repeatable%20read"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t) + "&default_transaction_isolation=" + level
			requireNothingLost(t, database, func() {})
		})
	}
}

func TestError_NamesReadOnlyServer(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	publish(t, openAt(t, database, pgmq.Config{}), "a")
	client := openAt(t, database+"&default_transaction_read_only=on", pgmq.Config{})
	err := client.Publish("t", message.NewMessage("b", nil))
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, "target_session_attrs=read-write")
	err = client.Publish("new", message.NewMessage("b", nil))
	require.ErrorContains(t, err, "target_session_attrs=read-write")
	_, err = client.Subscribe(t.Context(), "t")
	require.ErrorContains(t, err, "read-only")
}
