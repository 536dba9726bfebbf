package pgmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// large publishes n messages that may take long, for all that a consumer knows while it screens.
func large(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, n int) {
	t.Helper()
	require.NoError(t, client.SubscribeInitialize("t"))
	insertBombs(t, pool, 1, numbers(100, "1e131071"), "null")
	for range n {
		execute(t, pool, `insert into pgmq.q_t (vt, message) select now(), to_jsonb(string_agg(md5(random()::text), '')) from generate_series(1, 5000)`)
	}
}

// suspecting is a consumer to which a message of 160 kB is suspicious, and that has none
// twice because a lease has ended.
func suspecting() pgmq.Config {
	config := withMaxMessage(4 << 20)
	config.Subscriber.Lease = 5 * time.Minute
	return config
}

func TestQuarantine_ReleasesSuspectsOnStop(t *testing.T) {
	t.Parallel()
	client, pool := open(t, suspecting())
	large(t, client, pool, 20)
	receive(t, subscribe(t, client)).Ack()
	require.NoError(t, client.Close())
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_t where vt > now() and jsonb_typeof(message) = 'string'"), "it waits for no lease")
	require.Equal(t, 19, get[int](t, pool, "select count(*) from pgmq.q_t where jsonb_typeof(message) = 'string'"))
}

func TestQuarantine_KeepsSuspectsWhenConnectionIsCut(t *testing.T) {
	t.Parallel()
	client, pool := open(t, suspecting())
	large(t, client, pool, 20)
	messages := subscribe(t, client)
	for i := range 20 {
		receive(t, messages).Ack()
		if i < 4 {
			execute(t, pool, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
		}
	}
	requireCount(t, pool, "pgmq.q_t where jsonb_typeof(message) = 'string'", 0)
}

// Its handlers do nothing, and what could be read waits for them.
func TestQuarantine_OfFullQueueDelaysNoOtherQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, suspecting())
	require.NoError(t, client.SubscribeInitialize("full"))
	execute(t, pool, `insert into pgmq.q_full (vt, message) select now(), '[1e500]' from generate_series(1, 300)`)
	execute(t, pool, strings.ReplaceAll("insert into pgmq.q_full (vt, message) select '-infinity', (BOMB)", "BOMB", numbers(100, "1e131071")))
	_, err := client.Subscribe(t.Context(), "full")
	require.NoError(t, err)
	requireCount(t, pool, "pgmq.a_full", 1)
	large(t, client, pool, 3)
	messages := subscribe(t, client)
	for range 3 {
		receive(t, messages).Ack()
	}
}

// Each can be sized and read in time, and all of them cannot. They were sized, one after the
// other, until there was no time to read the first.
func TestQuarantine_AlwaysDeliversSomeSlowMessages(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	pool := pgtest.Pool(t, url)
	execute(t, pool, `create function jsonb_typeof(jsonb) returns text stable language plpgsql as $$
		begin perform pg_sleep(0.3); return pg_catalog.jsonb_typeof($1); end $$`)
	execute(t, pool, `create function written(jsonb) returns text stable language plpgsql as $$
		begin perform pg_sleep(0.3 * pg_catalog.octet_length(pg_catalog.format('%s', $1)) / 1000000); return pg_catalog.format('%s', $1); end $$`)
	execute(t, pool, "create cast (jsonb as text) with function written(jsonb)")
	config := withMaxMessage(4 << 20)
	config.Subscriber.Lease = 3 * time.Second
	client := openAt(t, url+"&search_path=public,pg_catalog", config)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, "insert into pgmq.q_t (vt, message) select now(), to_jsonb(repeat('x', 2000000)) from generate_series(1, 3)")
	messages := subscribe(t, client)
	for range 3 {
		msg := receive(t, messages)
		require.Len(t, msg.Payload, 2_000_002)
		msg.Ack()
	}
}
