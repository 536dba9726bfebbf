package pgmq_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// placesOfCode are tables that a role can make in the place of {t}, with one that it gives code: {c}. {n} is a number.
func placesOfCode() map[string]string {
	const partitioned = "alter table {t} set schema made; alter table made.{name} rename to template_{n}; create table {t} (like made.template_{n} including defaults) partition by "
	return map[string]string{
		theTable:               "select", // {c} is {t}
		"its partition":        partitioned + "range ({k}); create table {c} partition of {t} default",
		"a partition of that":  partitioned + "range ({k}); create table made.mid_{n} partition of {t} default partition by hash ({k}); create table {c} partition of made.mid_{n} for values with (modulus 1, remainder 0)",
		"a child":              "create table {c} () inherits ({t})",
		"a child of the child": "create table made.mid_{n} () inherits ({t}); create table {c} () inherits (made.mid_{n})",
		"a table it inherits":  "create table {c} (like {t}); alter table {t} inherit {c}",
	}
}

const theTable = "the table"

// waysToCode give {c} code that PostgreSQL runs for a role that uses the table; hidden says that it knows of no function there.
// {a} is the table that has the columns.
func waysToCode() map[string]string {
	const hidden = "query_to_xml('select public.take(''{}'')', true, true, '')"
	return map[string]string{
		"a trigger":                       "create trigger t before insert or update or delete on {c} for each row execute function public.steal()",
		"a hidden condition of a trigger": "create trigger t after insert on {c} for each row when (" + hidden + " is not null) execute function suppress_redundant_updates_trigger()",
		"a default":                       "alter table {a} add column x boolean; alter table {c} alter x set default public.take('{}')",
		"a hidden default":                "alter table {a} add column x text; alter table {c} alter x set default " + hidden + "::text",
		"a constraint":                    "alter table {c} add check (public.take(to_jsonb({k}))) not valid",
		"a hidden constraint":             "alter table {c} add check (" + hidden + " is not null) not valid",
		aPolicy:                           "alter table {c} enable row level security; create policy p on {c} using (" + hidden + " is not null)",
		"a hidden rule":                   "create rule r as on insert to {c} do also select " + hidden,
		"an index":                        "create index on {c} (public.unchanged({k}))",
		"statistics":                      "create statistics public.statistics_{n} on (public.unchanged({k})) from {c}",
		"an operator in an index":         "create index on {c} (({k} operator(public.~~~) {k}))",
		"a generated column":              "alter table {a} add column x {type} generated always as (public.unchanged({k})) stored",
		"a domain":                        "alter table {a} add column x public.stealing",
		aView:                             "alter table {t} set schema made; create view {t} as select * from made.{name} where public.take('{}')",
	}
}

// These are made in the place of the table itself.
const (
	aView   = "a view"
	aPolicy = "a hidden policy"
)

// makeFunctions gives mallory functions, an operator and a domain that steal.
func (env *untrustedOwnerEnv) makeFunctions(t *testing.T) {
	t.Helper()
	env.execAsOwner(t, "create function public.take(jsonb) returns boolean language plpgsql as $$ begin insert into public.loot values (current_user); return true; end $$",
		"create function public.unchanged(anyelement) returns anyelement immutable language plpgsql as $$ begin perform public.take('{}'); return $1; end $$",
		"create function public.both(anyelement, anyelement) returns anyelement immutable language plpgsql as $$ begin perform public.take('{}'); return $1; end $$",
		"create operator public.~~~ (leftarg = anyelement, rightarg = anyelement, function = public.both)",
		"create domain public.stealing as text check (query_to_xml('select public.take(''{}'')', true, true, '') is not null)")
}

// useOfTable is what a program does with a table that mallory was the first to make.
type useOfTable struct {
	table, create string // {n} is a number, and {group} the queue of the group g of the topic t{n}
	key, kind     string // a column and its type
	ofPGMQ        bool   // it is one of those that PGMQ has, and that older versions of PGMQ lack
	untouched     bool   // the table is left alone, and not refused
	logged        bool   // the refusal is
	run           func(v *tricked, n int) error
}

func (u useOfTable) with(run func(*tricked, int) error) useOfTable {
	u.run = run
	return u
}

// usesOfTables has each table that ezq's SQL reads or writes, except where a program inspects, moves or deletes messages.
func usesOfTables() map[string]useOfTable {
	queue := func(name string) useOfTable {
		return useOfTable{table: "pgmq.q_" + name, create: "select pgmq.create('" + name + "'); insert into pgmq.q_" + name + " (vt, message) values (now(), '{}')", key: "message", kind: "jsonb"}
	}
	table := func(name, columns, key, kind string) useOfTable {
		return useOfTable{table: name, create: "create table " + name + " (" + columns + ")", key: key, kind: kind}
	}
	ofPGMQ := func(name, columns string) useOfTable {
		made := table("pgmq."+name, columns, "queue_name", "text")
		made.ofPGMQ = true
		return made.with((*tricked).publish)
	}
	archive, own, bound := queue("t{n}"), queue("t{n}"), queue("b{n}")
	archive.table = "pgmq.a_t{n}"
	own.untouched = true
	dead, pruned := queue("t{n}").with((*tricked).deadLetter), queue("t{n}_dead").with((*tricked).pruneDeadLetters)
	dead.logged, pruned.logged = true, true
	pruned.create = "select pgmq.create('t{n}_dead'); insert into pgmq.q_t{n}_dead (enqueued_at, vt, message, headers) values (now() - interval '2 days', now(), '{}', '{\"topic_poisoned\":\"t{n}\"}')"
	bound.create += "; select pgmq.bind_topic('t{n}', 'b{n}')"
	return map[string]useOfTable{
		"publish":           queue("t{n}").with((*tricked).publish),
		"publish to bound":  bound.with((*tricked).publish),
		"publish with ID":   table("pgmq.ezq_ids", "key bytea, until timestamptz not null", "key", "bytea").with((*tricked).publishWithID),
		"publish with key":  queue("t{n}").with((*tricked).publishWithKey),
		"publish to group":  queue("{group}").with((*tricked).publishToGroup),
		"tick":              queue("ezq_schedules").with((*tricked).publishTick),
		"subscribe":         queue("t{n}").with((*tricked).subscribe),
		"peek":              queue("t{n}").with((*tricked).peek),
		"archive":           archive.with((*tricked).subscribe),
		"group":             queue("{group}").with((*tricked).subscribeGroup),
		"beside a group":    own.with((*tricked).subscribeGroup),
		"dead letter":       dead,
		"pruned":            pruned,
		"pause":             table("pgmq.ezq_pauses", "queue text, topic text, consumer_group text, paused_by text, reason text, since timestamptz, until timestamptz", "queue", "text").with((*tricked).pause),
		"key store":         table("public.seen{n}", "key bytea, until timestamptz not null", "key", "bytea").with((*tricked).openKeyStore),
		"bindings of PGMQ":  ofPGMQ("topic_bindings", "pattern text, queue_name text, bound_at timestamptz default now(), compiled_regex text"),
		"queues of PGMQ":    ofPGMQ("meta", "queue_name text, is_partitioned boolean, is_unlogged boolean, created_at timestamptz default now()"),
		"throttles of PGMQ": ofPGMQ("notify_insert_throttle", "queue_name text, throttle_interval_ms integer, last_notified_at timestamptz"),
	}
}

// waysTried is how many of the ways one use of a table is tried with in one run. All 18 uses with all 14 ways take a minute
// of CPU. Each run has other pairs, and each way several times.
const waysTried = 6

// Whatever a role does to a table that it is the first to make, and wherever it puts that, it runs as no other role.
func TestQueue_MadeByUntrustedRoleRunsNoCodeAnywhere(t *testing.T) {
	t.Parallel()
	ways := slices.Collect(maps.Keys(waysToCode())) // in any order
	first := 0
	for name, use := range usesOfTables() {
		first++
		tried := slices.Concat(ways, ways)[first%len(ways):][:waysTried]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newUntrustedOwnerEnv(t)
			env.makeFunctions(t)
			execute(t, env.pool, "create schema made authorization "+env.role+"; grant usage on schema made to public")
			url := pgtest.Role(t, env.database, append(grantsOf(t, "ezq_owner"), "grant all on schema public to {role}")...)
			places := slices.Collect(maps.Keys(placesOfCode()))
			n := 0
			for _, way := range tried {
				place := places[n%len(places)]      // each way in one of the places, which is another one in each run
				if way == aView || way == aPolicy { // PostgreSQL asks the policies of the table that a statement names
					place = theTable
				}
				n++
				env.useTable(t, newTricked(t, env, url), use, place, way, n)
			}
		})
	}
}

// useTable has the victim use a table with code in a place.
func (env *untrustedOwnerEnv) useTable(t *testing.T, v *tricked, use useOfTable, place, way string, n int) {
	t.Helper()
	defer func() { require.NoError(t, v.client.Close()) }()
	what := fmt.Sprintf("%s on %s", way, place)
	group, err := pgmq.GroupQueueName(topicOf(n), "g")
	require.NoError(t, err)
	table := strings.NewReplacer("{n}", fmt.Sprint(n), "{group}", group).Replace(use.table)
	names := strings.NewReplacer("{n}", fmt.Sprint(n), "{group}", group, "{t}", table, "{name}", table[strings.Index(table, ".")+1:], "{k}", use.key, "{type}", use.kind,
		"{c}", ifThen(place == theTable, table, fmt.Sprintf("made.c%d", n)), "{a}", ifThen(strings.Contains(placesOfCode()[place], "partition by"), table, ifThen(place == theTable, table, fmt.Sprintf("made.c%d", n))))
	if use.ofPGMQ {
		execute(t, env.pool, names.Replace("create schema kept; alter table {t} set schema kept"))
		defer execute(t, env.pool, names.Replace("alter table kept.{name} set schema pgmq; drop schema kept"))
	}
	for _, sql := range []string{use.create, placesOfCode()[place], waysToCode()[way], "grant all on {t}, {c} to public"} {
		env.execAsOwner(t, names.Replace(sql))
	}
	execute(t, env.pool, "delete from public.loot; grant all on all tables in schema pgmq to public")
	defer execute(t, env.pool, names.Replace("do $$ begin execute (select format('drop %s {t} cascade', case relkind when 'v' then 'view' else 'table' end) from pg_class where oid = to_regclass('{t}')); end $$;"+
		"drop schema made cascade; create schema made authorization "+env.role+"; grant usage on schema made to public"))
	err = use.run(v, n)
	env.requireNothingStolen(t)
	switch {
	case use.untouched:
		require.NoError(t, err, what)
		require.NotContains(t, v.log.String(), "move=", what)
	case use.logged:
		require.Contains(t, v.log.String(), ifThen(way == aView, "PGMQ", "belongs to the role "+env.role), what)
	case way == aView && !use.ofPGMQ:
		require.Error(t, err, what)
	default:
		require.ErrorIs(t, err, pgmq.ErrPermission, what)
		requireRefusedAsForeign(t, err, env)
		if !use.ofPGMQ {
			listed := strings.ReplaceAll(sqlBlock(t, "pg_describe_object"), "pgmq.q_orders_dead", table)
			require.Positive(t, get[int](t, env.pool, "select count(*) from ("+strings.TrimSuffix(strings.TrimSpace(listed), ";")+") as listed"), "%s is not listed", what)
		}
	}
}

// tricked is a program with the rights of those that create queues.
type tricked struct {
	*testing.T
	url    string
	client *pgmq.Client
	admin  *pgxpool.Pool
	log    *logRecorder
}

func newTricked(t *testing.T, env *untrustedOwnerEnv, url string) *tricked {
	t.Helper()
	v := &tricked{T: t, url: url, admin: env.pool, log: &logRecorder{}}
	v.client = v.open(pgmq.SubscriberConfig{Archive: true})
	return v
}

func (v *tricked) open(config pgmq.SubscriberConfig) *pgmq.Client {
	return openAt(v.T, v.url, pgmq.Config{Subscriber: config, Logger: v.log.logger()})
}

func topicOf(n int) string { return fmt.Sprintf("t%d", n) }

func (v *tricked) publish(n int) error {
	return v.client.Publish(topicOf(n), message.NewMessage("1", []byte("{}")))
}

func (v *tricked) publishWithID(n int) error {
	return v.client.Publish(topicOf(n), conditional(v.Context(), "1", once(), time.Hour))
}

func (v *tricked) publishWithKey(n int) error {
	return v.client.Publish(topicOf(n), conditional(v.Context(), "1", unique("k"), 0))
}

// publishToGroup publishes to a topic whose only queue is that of a group.
func (v *tricked) publishToGroup(n int) error {
	group, err := pgmq.GroupQueueName(topicOf(n), "g")
	require.NoError(v, err)
	execute(v.T, v.admin, fmt.Sprintf("select pgmq.bind_topic('%s', '%s')", topicOf(n), group))
	return v.publish(n)
}

func (v *tricked) publishTick(n int) error {
	tick := &backend.ScheduleTick{Schedule: "nightly", At: time.Now()}
	return v.client.Publish(topicOf(n), message.NewMessageWithContext(backend.WithScheduleTick(v.Context(), tick), "1", []byte("{}")))
}

func (v *tricked) subscribe(n int) error {
	ctx, stop := context.WithCancel(v.Context())
	defer stop()
	_, err := v.client.Subscribe(ctx, topicOf(n))
	return err
}

func namesOf(states []backend.QueueState) (names []string) {
	for _, s := range states {
		names = append(names, s.Queue)
	}
	return names
}

// peek looks at the messages of a queue, and at the states of all.
func (v *tricked) peek(n int) error {
	states, _ := v.client.QueueStates(v.Context()) // the error is about the queue, if that is a table
	require.NotContains(v, namesOf(states), topicOf(n))
	_, err := v.client.Peek(v.Context(), topicOf(n), backend.Peek{})
	return err
}

func (v *tricked) subscribeGroup(n int) error {
	require.NoError(v, v.client.Close())
	v.client = v.open(pgmq.SubscriberConfig{Group: "g"})
	return v.subscribe(n)
}

// deadLetter has a message become a dead letter of a topic, whose queue refuses it.
func (v *tricked) deadLetter(n int) error {
	source := "source_of_" + topicOf(n)
	require.NoError(v, v.client.Publish(source, message.NewMessage("1", []byte("{}"))))
	ctx, stop := context.WithCancel(v.Context())
	defer stop()
	messages, err := v.client.Subscribe(ctx, source)
	require.NoError(v, err)
	backend.DeadLetter(receive(v.T, messages), backend.DeadLetterTarget{Topic: topicOf(n)})
	v.log.requireLogged(v.T, "a dead letter cannot be moved")
	return nil
}

// pruneDeadLetters has the consumers of a topic delete its old dead letters.
func (v *tricked) pruneDeadLetters(n int) error {
	require.NoError(v, v.client.Close())
	v.client = v.open(pgmq.SubscriberConfig{DeadLettersFor: 24 * time.Hour})
	v.client.PruneEvery(10 * time.Millisecond)
	_, err := v.client.Subscribe(v.Context(), topicOf(n))
	require.NoError(v, err)
	v.log.requireLogged(v.T, "the dead letters cannot be pruned")
	return nil
}

func (v *tricked) pause(n int) error {
	_, err := v.client.Pauses(v.Context(), topicOf(n))
	require.Error(v, err)
	_, err = v.client.Resume(v.Context(), topicOf(n))
	require.Error(v, err)
	require.NoError(v, v.subscribe(n), "it keeps no pauses")
	_, err = v.client.Pause(v.Context(), topicOf(n), backend.Pause{By: "ada", Reason: "because"})
	return err
}

func (v *tricked) openKeyStore(n int) error {
	_, err := v.client.KeyStore(v.Context(), fmt.Sprintf("public.seen%d", n))
	return err
}

func ifThen(condition bool, then, otherwise string) string {
	if condition {
		return then
	}
	return otherwise
}

// A table that ezq or PGMQ comes to have is a new place for code.
func TestUntrustedCode_IsTriedInEachTableBesideQueues(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	v := &tricked{T: t, url: database, admin: pgtest.Pool(t, database), log: &logRecorder{}}
	v.client = v.open(pgmq.SubscriberConfig{})
	for _, use := range []func(int) error{v.publishWithID, v.publishWithKey, v.publishTick, v.subscribeGroup} {
		require.NoError(t, use(1))
	}
	_, err := v.client.Pause(t.Context(), topicOf(1), backend.Pause{By: "ada", Reason: "because"})
	require.NoError(t, err)
	var tried []string
	for _, use := range usesOfTables() {
		tried = append(tried, use.table)
	}
	for _, table := range get[[]string](t, v.admin, `select array_agg('pgmq.' || relname order by 1) from pg_class
		where relnamespace = 'pgmq'::regnamespace and relkind not in ('i', 'I', 'S', 'c') and relname !~ '^[qa]_(t1|h|.*_h[0-9a-f]{20}$)' and relname <> 'a_ezq_schedules'`) {
		require.Contains(t, tried, table)
	}
}

// A consumer looks again where its queue was dropped, and another role is the first to create it again.
func TestQueue_CreatedAgainByUntrustedRoleRunsNoCode(t *testing.T) {
	t.Parallel()
	env := newUntrustedOwnerEnv(t)
	log := &logRecorder{}
	client := openAt(t, env.database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{PollInterval: 10 * time.Millisecond}})
	messages, err := client.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	execute(t, env.pool, "begin; select pgmq.drop_queue('orders'); set local role "+env.role+"; select pgmq.create('orders');"+
		"grant all on pgmq.q_orders to public; insert into pgmq.q_orders (vt, message) values (now(), '{}');"+
		"create trigger t before insert or update or delete on pgmq.q_orders for each row execute function public.steal(); commit")
	pgtest.Eventually(t, patience, "an outcome", func() bool {
		return strings.Contains(log.String(), "belongs to the role "+env.role) || get[int](t, env.pool, "select count(*) from public.loot") > 0
	})
	env.requireNothingStolen(t)
	require.Empty(t, messages)
}

// A version of PGMQ that lacks a function of a later one lets a role make it.
func TestPGMQ_FunctionsOfUntrustedRoleAreNotCalled(t *testing.T) {
	t.Parallel()
	for signature, result := range map[string]string{
		"create(text)": "integer", "create_unlogged(text)": "integer", "create_partitioned(text, text, text)": "integer",
		"bind_topic(text, text)": "integer", "drop_queue(text)": "boolean", "notify_queue_listeners()": "trigger",
	} {
		t.Run(signature, func(t *testing.T) {
			t.Parallel()
			env := newUntrustedOwnerEnv(t)
			client, grouped := openAt(t, env.database, pgmq.Config{}), openAt(t, env.database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "g"}})
			execute(t, env.pool, "drop function pgmq."+signature+" cascade")
			env.execAsOwner(t, "create function pgmq."+signature+" returns "+result+" language plpgsql as $$ begin insert into public.loot values (current_user); return null; end $$")
			requireRefusedAsForeign(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))), env)
			require.Error(t, grouped.SubscribeInitialize("orders"))
			require.Error(t, client.CreateQueue(t.Context(), "unlogged", &pgmq.QueueOptions{Kind: pgmq.QueueUnlogged}))
			_, err := client.DropQueue(t.Context(), "orders")
			requireRefusedAsForeign(t, err, env)
			env.requireNothingStolen(t)
		})
	}
}
