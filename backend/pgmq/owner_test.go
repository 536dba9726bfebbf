package pgmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// untrustedOwnerEnv is a database in which mallory, who may create tables, has written a function that
// steals with the rights of the role that runs it.
type untrustedOwnerEnv struct {
	database string
	pool     *pgxpool.Pool
	mallory  *pgx.Conn
	role     string
}

func newUntrustedOwnerEnv(t *testing.T) *untrustedOwnerEnv {
	t.Helper()
	env := &untrustedOwnerEnv{database: pgtest.Database(t)}
	env.pool = pgtest.Pool(t, env.database)
	execute(t, env.pool, "grant create on schema public to public") // the default before PostgreSQL 15
	url := pgtest.Role(t, env.database, append(grantsOf(t, "ezq_owner"), "grant usage on schema public to {role}")...)
	var err error
	env.mallory, err = pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, env.mallory.Close(context.WithoutCancel(t.Context()))) })
	env.role = env.mallory.Config().User
	env.execAsOwner(t, "create table public.loot (who text)", "grant all on public.loot to public",
		"create function public.steal() returns trigger language plpgsql as $$ begin insert into public.loot values (current_user); return coalesce(new, old); end $$")
	return env
}

func (env *untrustedOwnerEnv) execAsOwner(t *testing.T, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := env.mallory.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func (env *untrustedOwnerEnv) queue(t *testing.T, name string) {
	t.Helper()
	env.execAsOwner(t, "select pgmq.create('"+name+"')", "grant all on pgmq.q_"+name+" to public",
		"create trigger t before insert or update or delete on pgmq.q_"+name+" for each row execute function public.steal()")
}

func (env *untrustedOwnerEnv) requireNothingStolen(t *testing.T) {
	t.Helper()
	require.Empty(t, get[string](t, env.pool, "select coalesce(string_agg(distinct who, ', '), '') from public.loot"), "code ran as these roles")
}

func requireRefusedAsForeign(t *testing.T, err error, env *untrustedOwnerEnv) {
	t.Helper()
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "belongs to the role "+env.role)
	requireDropBeforeOwner(t, err)
}

// requireDropBeforeOwner fails if a remedy makes the table trusted before its code is gone.
func requireDropBeforeOwner(t *testing.T, err error) {
	t.Helper()
	var refused *pgmq.Error
	require.ErrorAs(t, err, &refused)
	list, drop, own := strings.Index(refused.Remedy, "SELECT "), strings.Index(refused.Remedy, "drop"), strings.Index(refused.Remedy, "OWNER TO")
	require.Positive(t, list, refused.Remedy)
	require.Greater(t, drop, list, refused.Remedy)
	require.Greater(t, own, drop, refused.Remedy)
}

func TestKeyStore_MadeByUntrustedRoleRunsNoCode(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.execAsOwner(t, "create table public.ezq_seen (key bytea primary key, until timestamptz not null)", "grant all on public.ezq_seen to public",
		"create trigger t before insert on public.ezq_seen for each row execute function public.steal()")
	client := openAt(t, env.database, pgmq.Config{})
	_, err := client.KeyStore(t.Context(), "ezq_seen")
	requireRefusedAsForeign(t, err, env)
}

func TestQueue_MadeByUntrustedRoleRunsNoCode(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.queue(t, "orders")
	client := openAt(t, env.database, pgmq.Config{})
	requireRefusedAsForeign(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))), env)
	_, err := client.Subscribe(t.Context(), "orders")
	requireRefusedAsForeign(t, err, env)

	env.queue(t, "listening") // bound to everything
	execute(t, env.pool, "select pgmq.create('payments')")
	env.execAsOwner(t, "select pgmq.bind_topic('#', 'listening')")
	for _, config := range []pgmq.PublisherConfig{{}, {NoCreate: true}} {
		client := openAt(t, env.database, pgmq.Config{Publisher: config})
		requireRefusedAsForeign(t, client.Publish("payments", message.NewMessage("1", []byte("{}"))), env)
	}
	env.requireNothingStolen(t)
}

// What PGMQ and ezq make on a table is no code, also if its owner is not trusted.
func TestQueue_MadeByUntrustedRoleIsUsedAsItIsMade(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.execAsOwner(t, "select pgmq.create('orders')", "select pgmq.create_fifo_index('orders')",
		"create index on pgmq.q_orders (read_ct)",
		"create table public.ezq_seen (key bytea primary key, until timestamptz not null)", "create index on public.ezq_seen (until)",
		"grant all on public.ezq_seen, pgmq.q_orders, pgmq.a_orders to public")
	indexes := sqlBlock(t, "using hash ((headers->'ezq_uuid'")
	for create := range strings.SplitSeq(strings.ReplaceAll(indexes, "a_orders", "q_orders"), ";") {
		env.execAsOwner(t, create)
	}
	client := openAt(t, env.database, pgmq.Config{})
	require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
	messages, err := client.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	receive(t, messages).Ack()
	_, err = client.KeyStore(t.Context(), "ezq_seen")
	require.NoError(t, err)
}

func TestDeadLetter_AvoidsQueueMadeByUntrustedRole(t *testing.T) {
	t.Parallel()
	for _, noCreate := range []bool{false, true} {
		env := newUntrustedOwnerEnv(t)
		env.queue(t, "orders_dead")
		execute(t, env.pool, "select pgmq.create('orders')")
		log := &logRecorder{}
		client := openAt(t, env.database, pgmq.Config{
			Subscriber: pgmq.SubscriberConfig{NoCreate: noCreate}, Logger: slog.New(slog.NewTextHandler(log, nil)),
		})
		require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
		messages, err := client.Subscribe(t.Context(), "orders")
		require.NoError(t, err)
		backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
		pgtest.Eventually(t, patience, "a log of it", func() bool { return strings.Contains(log.String(), "belongs to the role "+env.role) })
		env.requireNothingStolen(t)
	}
}

func TestOwner_UntrustedIsLoggedOnce(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.execAsOwner(t, "select pgmq.create('orders')")
	log := &logRecorder{}
	client := openAt(t, env.database, pgmq.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	for range 3 {
		require.NoError(t, client.SubscribeInitialize("orders"))
	}
	require.Equal(t, 2, strings.Count(log.String(), "owner="+env.role), "the queue and its archive: %s", log.String())
}

func TestOwner_TrustedIsNotLogged(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.queue(t, "orders") // an administrator of queues, who has a trigger of his own,
	env.queue(t, "orders_dead")
	execute(t, env.pool, "delete from public.loot")
	log := &logRecorder{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	use := func(url string, noCreate bool) {
		client := openAt(t, url, pgmq.Config{
			Publisher: pgmq.PublisherConfig{NoCreate: noCreate}, Subscriber: pgmq.SubscriberConfig{NoCreate: noCreate}, Logger: logger,
		})
		require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		messages, err := client.Subscribe(ctx, "orders")
		require.NoError(t, err)
		before := get[int](t, env.pool, "select count(*) from pgmq.q_orders_dead")
		backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
		pgtest.Eventually(t, patience, "a dead letter", func() bool {
			return get[int](t, env.pool, "select count(*) from pgmq.q_orders_dead") > before
		})
	}
	grants := append(grantsOf(t, "ezq_consumer"), grantsOf(t, "ezq_publisher")...)
	env.execAsOwner(t, "grant all on pgmq.a_orders to public")
	execute(t, env.pool, sqlBlock(t, "create table if not exists pgmq.ezq_pauses"))
	use(pgtest.Role(t, env.database, grants...), true)                                          // as a program with NoCreate says,
	use(pgtest.Role(t, env.database, append(grants, "grant "+env.role+" to {role}")...), false) // or one that is a member,
	execute(t, env.pool, "alter schema pgmq owner to "+env.role)
	use(pgtest.Role(t, env.database, grants...), false) // or the owner of the schema
	require.Empty(t, log.String())
}

// The new owner of a table takes over its triggers, and each belongs to a function of the former one.
func TestQueue_OfTrustedOwnerRunsNoCodeOfUntrustedRole(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.makeFunctions(t)
	env.execAsOwner(t, "create table public.copies (message jsonb)", "grant all on public.copies to public")
	for name, code := range map[string]string{
		"trigger": "create trigger t before insert or update or delete on pgmq.q_orders for each row execute function public.steal()",
		"condition of a trigger": "create trigger t after insert on pgmq.q_orders for each row when (public.take(new.message))" +
			" execute function suppress_redundant_updates_trigger()",
		"constraint":                   "alter table pgmq.q_orders add check (public.take(message))",
		"default":                      "alter table pgmq.q_orders alter headers set default to_jsonb(public.take('{}'))",
		"policy":                       "alter table pgmq.q_orders enable row level security; create policy p on pgmq.q_orders using (public.take(message))",
		"rule":                         "create rule r as on insert to pgmq.q_orders do also select public.take(new.message)",
		"rule that writes a table":     "create rule r as on insert to pgmq.q_orders do also insert into public.copies values (new.message)",
		"statistics":                   "create statistics public.s on (public.unchanged(message)) from pgmq.q_orders",
		"operator":                     "alter table pgmq.q_orders add check ((message operator(public.~~~) message) is not null)",
		"domain":                       "alter table pgmq.q_orders add column x public.stealing",
		"child of the role":            "create table public.child () inherits (pgmq.q_orders); create trigger t before update on public.child for each row execute function public.steal()",
		"table that refers to it":      "create table public.child (msg_id bigint references pgmq.q_orders on delete cascade); alter table public.child owner to {role}",
		"hidden, of a child's owner":   "create table public.child () inherits (pgmq.q_orders); alter table public.child add check (query_to_xml('select 1', true, true, '') is not null); alter table public.child owner to {role}",
		"policy that reads a relation": "create policy p on pgmq.q_orders using (exists (select from public.copies))",
	} {
		t.Run(name, func(t *testing.T) {
			execute(t, env.pool, "select pgmq.create('orders')")
			defer execute(t, env.pool, "drop table if exists public.child; select pgmq.drop_queue('orders')")
			use := func() error {
				client := openAt(t, env.database, pgmq.Config{})
				if err := client.Publish("orders", message.NewMessage("1", []byte("{}"))); err != nil {
					return err
				}
				return client.SubscribeInitialize("orders")
			}
			require.NoError(t, use())
			execute(t, env.pool, strings.ReplaceAll(code, "{role}", env.role))
			execute(t, env.pool, "delete from public.loot") // a constraint looks at each row when it is added
			err := use()
			require.ErrorIs(t, err, pgmq.ErrPermission)
			require.ErrorContains(t, err, env.role)
			requireDropBeforeOwner(t, err)
			env.requireNothingStolen(t)
		})
	}
}

// An operator who does what an error and docs/postgres.md say runs nothing of the former owner's.
func TestOwner_RemedyRunsNoCode(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.queue(t, "orders")
	publish := func() error {
		client := openAt(t, env.database, pgmq.Config{})
		return client.Publish("orders", message.NewMessage("1", []byte("{}")))
	}
	var refused *pgmq.Error
	require.ErrorAs(t, publish(), &refused)
	printed := refused.Remedy[strings.Index(refused.Remedy, "SELECT "):strings.Index(refused.Remedy, "; see ")]
	documented := strings.ReplaceAll(sqlBlock(t, "pg_describe_object"), "q_orders_dead", "q_orders")
	for _, sql := range []string{printed, documented} {
		rows, err := env.pool.Query(t.Context(), sql)
		require.NoError(t, err, sql)
		found, err := pgx.CollectRows(rows, pgx.RowToMap)
		require.NoError(t, err, sql)
		require.Contains(t, fmt.Sprint(found), "trigger t on table pgmq.q_orders", sql)
		if sql == documented {
			require.Len(t, found, 1)
			require.Contains(t, fmt.Sprint(found), "steal()")
			require.Contains(t, fmt.Sprint(found), env.role)
		}
	}
	execute(t, env.pool, "alter table pgmq.q_orders owner to current_user; alter table pgmq.a_orders owner to current_user")
	require.ErrorContains(t, publish(), "steal(), which belongs to the role "+env.role, "to make it trusted is not enough")
	execute(t, env.pool, "drop trigger t on pgmq.q_orders")
	require.NoError(t, publish())
	env.requireNothingStolen(t)
}

// A queue without code is used, whichever role has made it. That role does not vouch for another queue of its own.
func TestDeadLetter_OwnerOfQueueWithoutCodeVouchesForNone(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.execAsOwner(t, "select pgmq.create('orders')", "grant all on pgmq.q_orders, pgmq.a_orders to public")
	env.queue(t, "orders_dead")
	log := &logRecorder{}
	client := openAt(t, env.database, pgmq.Config{Logger: log.logger()})
	require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
	messages, err := client.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
	pgtest.Eventually(t, patience, "an outcome", func() bool {
		return strings.Contains(log.String(), "a dead letter cannot be moved") || get[int](t, env.pool, "select count(*) from pgmq.q_orders") == 0
	})
	env.requireNothingStolen(t)
}

// PGMQ's trigger calls functions and operators by names without a schema: the role that makes it may have made those too.
func TestQueue_MadeByUntrustedRoleNotifiesNot(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	execute(t, env.pool, "grant all on pgmq.notify_insert_throttle to public")
	env.execAsOwner(t, "select pgmq.create('orders')", "select pgmq.enable_notify_insert('orders')", "grant all on pgmq.q_orders to public",
		"create function public.equals(varchar, text) returns boolean language plpgsql as $$ begin insert into public.loot values (current_user); return true; end $$",
		"create operator public.= (leftarg = varchar, rightarg = text, function = public.equals)")
	client := openAt(t, env.database, pgmq.Config{})
	requireRefusedAsForeign(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))), env)
	env.requireNothingStolen(t)
	execute(t, env.pool, "alter table pgmq.q_orders owner to current_user; drop operator public.= (varchar, text)")
	require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))), "an administrator vouches for the trigger")
}

// A key store without a schema is looked for in the search_path, where a role may have made a schema with the name of this role.
func TestKeyStore_InSchemaMadeByUntrustedRoleRunsNoCode(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	url := pgtest.Role(t, env.database, "grant all on schema public to {role}")
	program := roleOf(t, url)
	execute(t, env.pool, "create schema "+program+" authorization "+env.role)
	env.execAsOwner(t, "grant all on schema "+program+" to public", "create table "+program+".ezq_seen (key bytea primary key, until timestamptz not null)",
		"grant all on "+program+".ezq_seen to public", "create trigger t before insert on "+program+".ezq_seen for each row execute function public.steal()")
	execute(t, env.pool, "grant usage on schema pgmq to "+program)
	client := openAt(t, url, pgmq.Config{})
	_, err := client.KeyStore(t.Context(), "ezq_seen")
	requireRefusedAsForeign(t, err, env)
	_, err = client.KeyStore(t.Context(), program+".ezq_seen")
	require.NoError(t, err, "a schema that is named is that of a role which is trusted")
}

// What publishes ticks, and what lists and pauses schedules, trust the same tables, whichever queue the events go to.
func TestSchedules_TrustNoMoreThanTheirPublisher(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	env.execAsOwner(t, "select pgmq.create('reports')", "grant all on pgmq.q_reports to public")
	env.queue(t, "ezq_schedules")
	execute(t, env.pool, "grant select on pgmq.topic_bindings to public")
	client := openAt(t, pgtest.Role(t, env.database, "grant usage on schema pgmq to {role}"), pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	requireRefusedAsForeign(t, publishTick(t, client, "nightly", time.Now()), env)
	_, err := client.Schedules().List(t.Context())
	requireRefusedAsForeign(t, err, env)
	env.requireNothingStolen(t)
}
