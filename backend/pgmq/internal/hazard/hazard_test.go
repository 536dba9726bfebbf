package hazard_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/hazard"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// cause is how a hazard comes about, in a database with the queue orders.
type cause struct {
	sql       string // each statement for itself
	session   string // of a session that stays
	threshold string // lower than the usual one
	object    string // that is found; a part of it
	remedied  string // SQL besides that of the finding, or "-" if that does not end the hazard
}

// causes has the hazards of one database.
func causes() map[string]cause {
	const partitioned = `drop table pgmq.q_orders;
		create sequence pgmq.ids;
		create table pgmq.q_orders (msg_id bigint not null default nextval('pgmq.ids'), read_ct int default 0 not null, enqueued_at timestamptz default now() not null,
			last_read_at timestamptz, vt timestamptz not null, message jsonb, headers jsonb) partition by range (msg_id);
		alter sequence pgmq.ids owned by pgmq.q_orders.msg_id;
		create table pgmq.q_orders_1 partition of pgmq.q_orders for values from ('1') to ('10');
		create table pgmq.q_orders_default partition of pgmq.q_orders default;
		create index on pgmq.q_orders (vt);`
	const fill = "insert into pgmq.q_orders (vt, message) select clock_timestamp() - interval '1 hour', '{}' from generate_series(1, 2000);"
	return map[string]cause{
		"old-snapshot":            {session: "begin isolation level repeatable read; select 1", threshold: "interval '0'", object: "session "},
		"idle-in-transaction":     {session: "begin", threshold: "interval '0'", object: "session "},
		"autovacuum-off":          {sql: "alter table pgmq.q_orders set (autovacuum_enabled = off)", object: "orders"},
		"sequence-behind":         {sql: "insert into pgmq.q_orders (msg_id, vt) overriding system value values (7, now())", object: "orders"},
		"default-partition":       {sql: partitioned + "insert into pgmq.q_orders (msg_id, vt) values (10, now())", object: "orders", remedied: "-"},
		"partitions-run-out":      {sql: partitioned + "insert into pgmq.q_orders (vt) values (now())", object: "orders", remedied: "-"},
		"dead-rows":               {sql: fill + "delete from pgmq.q_orders", threshold: "100", object: "orders"},
		"missing-index":           {sql: "drop index pgmq.q_orders_vt_idx", object: "orders"},
		"invalid-index":           {sql: "create index broken on pgmq.q_orders (read_ct); update pg_index set indisvalid = false where indexrelid = 'pgmq.broken'::regclass", object: "orders"},
		"index-bloat":             {sql: fill + "delete from pgmq.q_orders; select pg_stat_reset_single_table_counters('pgmq.q_orders'::regclass)", threshold: "16384", object: "orders", remedied: "vacuum pgmq.q_orders"},
		"not-consumed":            {sql: "insert into pgmq.q_orders (vt) values (now() - interval '25 hours')", object: "orders", remedied: "delete from pgmq.q_orders"},
		"many-deliveries":         {sql: "insert into pgmq.q_orders (vt, read_ct) values (now(), 21)", object: "orders", remedied: "delete from pgmq.q_orders"},
		"long-lease":              {sql: "insert into pgmq.q_orders (vt, read_ct) values (now() + interval '1 day', 1)", object: "orders"},
		"large-archive":           {sql: "insert into pgmq.a_orders (msg_id, vt) values (1, now())", threshold: "8192", object: "orders", remedied: "truncate pgmq.a_orders; drop index pgmq.archived_at_idx_orders; alter table pgmq.a_orders drop constraint a_orders_pkey"},
		"notify-trigger":          {sql: "select pgmq.enable_notify_insert('orders')", object: "orders"},
		"not-dumped":              {sql: "alter extension plpgsql add table pgmq.q_orders", object: "orders"},
		"meta-mismatch":           {sql: "drop table pgmq.a_orders; create table pgmq.q_restored (vt timestamptz)", object: "orders"},
		"capital-letters":         {sql: "insert into pgmq.meta (queue_name, is_partitioned, is_unlogged) values ('Shipments', false, false)", object: "Shipments", remedied: "delete from pgmq.meta"},
		"old-queue":               {sql: "alter table pgmq.q_orders drop column last_read_at", object: "orders"},
		"row-security":            {sql: "alter table pgmq.q_orders enable row level security", object: "orders"},
		"unlogged-queue":          {sql: "alter table pgmq.q_orders set unlogged", object: "orders"},
		"stale-statistics":        {sql: "analyze pgmq.q_orders;" + fill, threshold: "1000", object: "orders"},
		"own-queue-beside-groups": {sql: "select pgmq.create('billing'); select pgmq.bind_topic('orders', 'billing')", object: "orders", remedied: "select pgmq.drop_queue('orders')"},
		"paused-topic": {sql: `create table pgmq.ezq_pauses (queue text primary key, topic text not null, consumer_group text not null,
			paused_by text not null, reason text not null, since timestamptz not null, until timestamptz);
			insert into pgmq.ezq_pauses values ('orders', 'orders', '', 'ada', 'the bank is down', now(), null)`, object: "orders", remedied: "delete from pgmq.ezq_pauses"},
	}
}

// Hazards that are not those of one database, and the tests that cause them.
var elsewhere = map[string]string{
	"read-only": "TestHazard_OfServerIsFound", "durability": "TestHazard_OfServerIsFound", "wraparound": "TestHazard_OfServerIsFound", "replication-slot": "TestHazard_OfServerIsFound",
	"prepared-transaction": "TestHazard_OfServerIsFound", "notification-queue": "TestHazard_OfServerIsFound", "connections": "TestHazard_OfServerIsFound",
	"timeouts": "TestHazard_OfRoleIsFound", "encoding": "TestHazard_OfEncodingIsFound",
}

func TestHazard_IsCausedByATest(t *testing.T) {
	t.Parallel()
	causes := causes()
	for _, h := range hazard.All() {
		_, here := causes[h.ID]
		require.True(t, here || elsewhere[h.ID] != "", "%s is caused by no test", h.ID)
		require.FileExists(t, "sql/"+h.ID+".sql")
	}
	require.Len(t, hazard.All(), len(causes)+len(elsewhere))
	files, err := os.ReadDir("sql")
	require.NoError(t, err)
	require.Len(t, files, len(hazard.All())+3, "of which three are parts, or list names")
}

// Each hazard is not found in a healthy database, is found once it is caused, and is gone when the remedy has been
// applied.
func TestHazard_IsFoundUntilItIsRemedied(t *testing.T) {
	t.Parallel()
	for _, h := range hazard.All() {
		c, ok := causes()[h.ID]
		if !ok {
			continue
		}
		t.Run(h.ID, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool := pgtest.Pool(t, database)
			pgtest.Exec(t, pool, "select pgmq.create('orders')")
			require.Empty(t, look(t, pool, h))
			require.NotEmpty(t, h.Remedy)

			pgtest.Exec(t, pool, c.sql)
			session := connect(t, database, c.session)
			if c.threshold != "" {
				require.NotEmpty(t, h.Threshold)
				require.Empty(t, look(t, pool, h), "below the threshold")
				h.Threshold = c.threshold
			}
			var found []hazard.Found
			pgtest.Eventually(t, time.Minute, "it is found", func() bool { // the statistics of PostgreSQL come later
				found = look(t, pool, h)
				return len(found) > 0
			})
			require.Contains(t, found[0].Object, c.object)
			require.NotEmpty(t, found[0].Seen)

			if c.remedied == "-" {
				return
			}
			for _, f := range found {
				require.NotRegexp(t, `(^|[^.\w])(setval|clock_timestamp|pg_\w+)\(`, f.SQL, "a function of the public schema could be meant")
				for sql := range strings.SplitSeq(f.SQL, ";") { // each for itself: VACUUM runs in no transaction
					pgtest.Exec(t, pool, sql)
				}
			}
			pgtest.Exec(t, pool, c.remedied)
			pgtest.Eventually(t, time.Minute, "it is remedied", func() bool { return len(look(t, pool, h)) == 0 })
			if session != nil {
				require.Error(t, session.Ping(t.Context()), "it was ended")
			}
		})
	}
}

// What other sessions of the server would see, or what it has to be started for.
func TestHazard_OfServerIsFound(t *testing.T) {
	t.Parallel()
	server := cluster.Start(t, "fsync = on", "full_page_writes = on", "max_prepared_transactions = 2", "max_connections = 20", "autovacuum = off")
	pool := pgtest.Pool(t, server.URL())
	pgtest.Exec(t, pool, "select pgmq.create('orders')")
	found := func(id, threshold string) []hazard.Found {
		h := hazardOf(t, id)
		if threshold != "" {
			h.Threshold = threshold
		}
		return look(t, pool, h)
	}
	require.Contains(t, found("autovacuum-off", "")[0].Seen, "autovacuum is off")
	for id := range elsewhere {
		require.Empty(t, found(id, ""), id)
	}

	pgtest.Exec(t, pool, "select pg_create_physical_replication_slot('standby', true)")
	pgtest.Exec(t, pool, "select pg_create_physical_replication_slot('unused')")
	require.Len(t, found("replication-slot", ""), 1)
	require.Equal(t, "slot standby", found("replication-slot", "")[0].Object)
	require.Empty(t, found("replication-slot", "")[0].SQL, "its reader may come back, and would miss what was dropped")

	pgtest.Exec(t, pool, "begin; select pgmq.send('orders', '{}'); prepare transaction 'forgotten'")
	require.Empty(t, found("prepared-transaction", ""))
	require.Equal(t, "transaction forgotten", found("prepared-transaction", "interval '0'")[0].Object)
	require.Empty(t, found("prepared-transaction", "interval '0'")[0].SQL, "which of both would lose nothing is not known")
	pgtest.Exec(t, pool, "rollback prepared 'forgotten'")
	require.Empty(t, found("prepared-transaction", "interval '0'"))

	_, err := connect(t, server.URL(), "listen x").Exec(t.Context(), "begin")
	require.NoError(t, err)
	for range 3 {
		pgtest.Exec(t, pool, "select pg_notify('x', repeat(n::text, 3000)) from generate_series(1, 9) as n")
	}
	require.Empty(t, found("notification-queue", ""))
	require.NotEmpty(t, found("notification-queue", "0"))

	pgtest.Exec(t, pool, "update pg_class set relfrozenxid = ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 4294967296 - 400000000) % 4294967296)::text::xid where relname = 'q_orders'")
	require.Equal(t, "table pgmq.q_orders", found("wraparound", "")[0].Object)
	pgtest.Exec(t, pool, found("wraparound", "")[0].SQL)
	require.Empty(t, found("wraparound", ""))
	const old = "((pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 4294967296 - 400000000) % 4294967296)::text::xid"
	pgtest.Exec(t, pool, "update pg_class set relfrozenxid = "+old+" where oid = (select reltoastrelid from pg_class where oid = 'pgmq.q_orders'::regclass)")
	require.Equal(t, "table pgmq.q_orders", found("wraparound", "")[0].Object)
	pgtest.Exec(t, pool, found("wraparound", "")[0].SQL)
	require.Empty(t, found("wraparound", ""))
	pgtest.Exec(t, pool, "update pg_database set datfrozenxid = "+old+" where datname = 'template1'")
	require.Equal(t, "database template1", found("wraparound", "")[0].Object)
	pgtest.Exec(t, pool, "update pg_database set datfrozenxid = (select d.datfrozenxid from pg_database d where d.datname = 'template0') where datname = 'template1'")
	require.Empty(t, found("wraparound", ""))

	for range 16 {
		connect(t, server.URL(), "select 1")
	}
	require.Contains(t, found("connections", "")[0].Object, "server")

	pgtest.Exec(t, pool, "alter database ezq set default_transaction_read_only = on; alter database ezq set synchronous_commit = off")
	pgtest.Exec(t, pool, "alter system set full_page_writes = off")
	pgtest.Exec(t, pool, "select pg_reload_conf()")
	pool.Reset()
	pgtest.Eventually(t, time.Minute, "the settings are read", func() bool { return len(found("durability", "")) == 2 })
	require.Contains(t, found("durability", "")[0].Seen, "full_page_writes")
	require.Contains(t, found("durability", "")[1].Seen, "synchronous_commit")
	require.NotEmpty(t, found("read-only", ""))
}

func TestHazard_OfRoleIsFound(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	role := pgtest.Role(t, database, "alter role {role} set statement_timeout = '1s'", "alter role {role} set idle_in_transaction_session_timeout = '10min'")
	found := look(t, pgtest.Pool(t, role), hazardOf(t, "timeouts"))
	require.Len(t, found, 1)
	require.Equal(t, "statement_timeout is 1000 ms", found[0].Seen)
	require.Empty(t, look(t, pgtest.Pool(t, database), hazardOf(t, "timeouts")))
}

// What is set for the database, or for the server, is remedied for the role. The server of the tests is not durable.
func TestHazard_OfDatabase(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "do $$ begin execute format('alter database %I set statement_timeout = 2000', current_database()); end $$")
	pool.Reset()
	for _, id := range []string{"timeouts", "durability"} {
		session := func() []hazard.Found {
			return slices.DeleteFunc(look(t, pool, hazardOf(t, id)), func(f hazard.Found) bool { return f.Object == "server" })
		}
		require.Len(t, session(), 1)
		pgtest.Exec(t, pool, session()[0].SQL)
		pool.Reset()
		require.Empty(t, session())
	}
}

// What looks like a hazard, and is none.
func TestHazard_IsNotSeenInHealthyDatabase(t *testing.T) {
	t.Parallel()
	for id, sql := range map[string]string{
		"not-consumed": `select pgmq.create('umlaut_dead_h0123456789abcdef0123'), pgmq.create('long_h0123456789abcdef0123');
			comment on table pgmq.q_long_h0123456789abcdef0123 is 'ezq: topic "a long one, cut_dead"';
			insert into pgmq.q_umlaut_dead_h0123456789abcdef0123 (vt) values (now() - interval '2 days'); insert into pgmq.q_long_h0123456789abcdef0123 (vt) values (now() - interval '2 days')`,
		"partitions-run-out": causes()["partitions-run-out"].sql + `; create table pgmq.q_orders_2 partition of pgmq.q_orders for values from (10) to (maxvalue);
			create table pgmq.q_a (id bigint, vt timestamptz) partition by range (id); create table pgmq.q_a_1 partition of pgmq.q_a for values from (1) to (10)`,
		"default-partition": causes()["default-partition"].sql + "; delete from pgmq.q_orders",
		"index-bloat":       "insert into pgmq.q_orders (vt) select now() from generate_series(1, 2000); analyze pgmq.q_orders",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t))
			pgtest.Exec(t, pool, "select pgmq.create('orders')")
			pgtest.Exec(t, pool, sql)
			h := hazardOf(t, id)
			if id == "index-bloat" { // as after a failover
				h.Threshold = "16384"
				pgtest.Eventually(t, time.Minute, "the rows are counted", func() (counted bool) {
					require.NoError(t, pool.QueryRow(t.Context(), "select pg_stat_get_live_tuples('pgmq.q_orders'::regclass) = 2000").Scan(&counted))
					return counted
				})
				pgtest.Exec(t, pool, "select pg_stat_reset_single_table_counters('pgmq.q_orders'::regclass)")
			}
			pgtest.Eventually(t, 10*time.Second, "the statistics of PostgreSQL come later", func() bool { return len(look(t, pool, h)) == 0 })
		})
	}
}

// A session that has written keeps dead rows between its statements too, when it has no snapshot.
func TestHazard_OldSnapshotOfWriter(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	pgtest.Exec(t, pool, "select pgmq.create('orders')")
	connect(t, database, "begin; insert into pgmq.q_orders (vt) values (now())")
	h := hazardOf(t, "old-snapshot")
	h.Threshold = "interval '0'"
	require.NotEmpty(t, look(t, pool, h))
}

// PGMQ's function would list another queue, or one of another kind.
func TestHazard_MetaMismatchOfOtherKinds(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, `create table pgmq."q_Bills" (vt timestamptz); create unlogged table pgmq.q_notes (vt timestamptz); create table pgmq.q_parts (vt timestamptz) partition by range (vt);
		insert into pgmq.meta (queue_name, is_partitioned, is_unlogged) values ('gone', false, true), ('lost', true, false)`)
	remedies := map[string]string{}
	for _, f := range look(t, pool, hazardOf(t, "meta-mismatch")) {
		remedies[f.Object] = f.SQL
	}
	require.Equal(t, map[string]string{"Bills": "", "parts": "", "lost": "", "notes": "select pgmq.create_unlogged('notes')", "gone": "select pgmq.create_unlogged('gone')"}, remedies)
}

func TestHazard_OfEncodingIsFound(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t, "encoding 'LATIN1' locale 'C' template template0"))
	require.Contains(t, look(t, pool, hazardOf(t, "encoding"))[0].Seen, "LATIN1")
}

// Of many queues with a hazard twenty are returned, and the number of the others.
func TestHazard_OfManyQueuesIsCut(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	pgtest.Exec(t, pool, "create table pgmq.q_1 (msg_id bigint, read_ct int, vt timestamptz, last_read_at timestamptz); insert into pgmq.q_1 values (1, 99, now())")
	pgtest.Exec(t, pool, "do $$ begin for n in 2..150 loop execute format('create table pgmq.q_%s as table pgmq.q_1', n); end loop; end $$")
	for _, id := range []string{"missing-index", "many-deliveries"} {
		found := look(t, pool, hazardOf(t, id))
		require.Len(t, found, 21)
		require.Equal(t, hazard.Found{Seen: "and 130 others"}, found[20])
	}
}

// A table with a policy is not read: that would run the code of its owner as the role that looks.
func TestHazard_LookRunsNoCodeOfOwners(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	pgtest.Exec(t, pool, `select pgmq.create('orders'); create sequence public.called; grant usage on public.called to public;
		create policy p on pgmq.q_orders using (nextval('public.called') > 0); alter table pgmq.q_orders enable row level security;
		create view pgmq.q_view as select nextval('public.called') as msg_id, 1 as read_ct, now() as vt, now() as last_read_at;
		insert into pgmq.q_orders (vt) values (now())`)
	looking := pgtest.Pool(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on all tables in schema pgmq to {role}"))
	for _, h := range hazard.All() {
		look(t, looking, h)
	}
	var called bool
	require.NoError(t, pool.QueryRow(t.Context(), "select is_called from public.called").Scan(&called))
	require.False(t, called)
}

func hazardOf(t *testing.T, id string) hazard.Hazard {
	t.Helper()
	for _, h := range hazard.All() {
		if h.ID == id {
			return h
		}
	}
	t.Fatal("there is no hazard " + id)
	return hazard.Hazard{}
}

func look(t *testing.T, pool *pgxpool.Pool, h hazard.Hazard) (found []hazard.Found) {
	t.Helper()
	require.NoError(t, pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
		tables, err := hazard.Tables(t.Context(), conn)
		require.NoError(t, err)
		mayRead := map[string]bool{}
		for _, table := range tables {
			mayRead[table] = true
		}
		queues, _, err := hazard.Queues(t.Context(), conn, mayRead)
		if err == nil {
			found, err = h.Look(t.Context(), conn, queues)
		}
		return err
	}), h.ID)
	return found
}

// connect opens a session that has done something, for the rest of the test.
func connect(t *testing.T, database, sql string) *pgx.Conn {
	t.Helper()
	if sql == "" {
		return nil
	}
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
	return conn
}
