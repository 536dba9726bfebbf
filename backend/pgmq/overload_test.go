package pgmq_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// overloadSQL does what a role can do that may create functions and operators in a schema of the search_path, with all
// names that may be those of functions and operators in ezq's SQL: it makes each for all types for which PostgreSQL has none
// with exactly these, which PostgreSQL would take in the place of its own. A call fails, and leaves the number of what was
// called in a sequence, which no rollback takes back. A role that is no superuser may not call them: its statement fails also if
// it has one in a branch that no row gets to. Rows of the catalog are made 50 times as fast as CREATE FUNCTION is.
const overloadSQL = `
set search_path = pg_catalog;
set allow_system_table_mods = on;
create sequence public.called;
grant usage, select, update on public.called to public;
create function public.overloaded() returns boolean language plpgsql as 'begin end';
revoke execute on function public.overloaded() from public;
create temporary table names as select regexp_split_to_table($names$ {names} $names$, '\s+') as name;
create temporary table types as select unnest('{text,varchar,name,smallint,int,bigint,numeric,real,double precision,interval,timestamp,timestamptz,
	date,jsonb,json,boolean,oid,bytea,text[],bigint[],regclass,jsonpath,xid,"\"char\""}'::regtype[])::oid as type;
create temporary table functions as
	select proname, n as arity, proargtypes, case when typtype = 'p' then 'text'::regtype else prorettype end as result, provariadic = 0 as fixed
	from pg_proc join pg_type on pg_type.oid = prorettype cross join generate_series(1, 8) as n
	where pronamespace = 'pg_catalog'::regnamespace and proname in (select name from names) and (n between pronargs - pronargdefaults and pronargs or provariadic <> 0 and n between pronargs and pronargs + 2);
create temporary table wanted as
	select proname as name, array[a.type] as args, result, false as is_operator from functions, types a where arity = 1
	union all select proname, array[a.type, b.type], result, false from functions, types a, types b where arity = 2
	union all select proname, base[:i - 1] || a.type || base[i + 1:], result, false
		from functions, types a, (values ('text'::regtype), ('bigint')) as simple(type), generate_series(1, arity) as i, lateral (
			select array_agg(case when fixed and typtype <> 'p' then pg_type.oid else simple.type end order by n) as base
			from generate_series(1, arity) as n left join pg_type on pg_type.oid = proargtypes[n - 1]) as base where arity > 2
	union all select o.name, array[a.type, b.type], coalesce((select oprresult from pg_operator where oprname = o.name and oprleft = a.type limit 1), 'boolean'::regtype), true
		from names o, types a, types b where exists (select from pg_operator where oprname = o.name and oprkind = 'b')
	union all select o.name, array[a.type], a.type, true from names o, types a where exists (select from pg_operator where oprname = o.name and oprkind = 'l');
create table public.overloads as
	select row_number() over () as n, name, args, result, is_operator, name || '(' || array_to_string(args::regtype[], ', ') || ')' as signature
	from (select distinct on (is_operator, name, args) * from wanted order by is_operator, name, args) as wanted
	where case when is_operator then not exists (select from pg_operator where oprname = name and oprnamespace = 'pg_catalog'::regnamespace
			and oprright = args[cardinality(args)] and oprleft = case cardinality(args) when 2 then args[1] else 0 end)
		else not exists (select from pg_proc where proname = name and pronamespace = 'pg_catalog'::regnamespace and proargtypes = array_to_string(args, ' ')::oidvector) end;
insert into pg_proc select made.* from public.overloads, pg_proc template, lateral jsonb_populate_record(template, jsonb_build_object(
	'oid', 40000000 + n, 'proname', case when is_operator then 'operator_' || n else name end, 'pronargs', cardinality(args),
	'proargtypes', array_to_string(args, ' '), 'prorettype', result::oid,
	'prosrc', format('begin perform pg_catalog.setval(''public.called'', %s); raise exception ''overloaded'' using detail = %L; end', n, signature))) as made
	where template.oid = 'public.overloaded'::regproc;
insert into pg_operator (oid, oprname, oprnamespace, oprowner, oprkind, oprcanmerge, oprcanhash, oprleft, oprright, oprresult, oprcom, oprnegate, oprcode, oprrest, oprjoin)
	select 80000000 + n, name, 'public'::regnamespace, proowner, case cardinality(args) when 2 then 'b' else 'l' end::"char", false, false,
		case cardinality(args) when 2 then args[1] else 0 end, args[cardinality(args)], result, 0, 0, 40000000 + n, 0, 0
	from public.overloads, pg_proc where is_operator and pg_proc.oid = 'public.overloaded'::regproc;
analyze pg_proc; analyze pg_operator;`

// overload makes the overloads in a database.
func overload(t *testing.T, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), strings.ReplaceAll(overloadSQL, "{names}", strings.Join(namesInSources(t), " ")))
	require.NoError(t, err)
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from public.overloads").Scan(&n))
	require.Greater(t, n, 10_000)
}

// namesInSources returns what may be the name of a function or an operator in the SQL of this backend.
func namesInSources(t *testing.T) (names []string) {
	t.Helper()
	found := map[string]bool{}
	name := regexp.MustCompile(`[a-z_][a-z0-9_]*\b|[-+*/<>=~!@#%^&|?]+`)
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".sql") && !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, one := range name.FindAllString(string(text), -1) {
			found[one] = true
		}
		return err
	}))
	for one := range found {
		names = append(names, one)
	}
	return names
}

// A role that may create functions in a schema of the search_path, as each may up to PostgreSQL 14 in the schema public, has
// none of them run as another role, whatever that one does with ezq.
func TestStatements_CallNoOverload(t *testing.T) {
	t.Parallel()
	for of, isRole := range map[string]bool{"a superuser": false, "a role": true} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			overload(t, database)
			admin, user := pgtest.Pool(t, database+pgxSeparator(database)+"search_path=pg_catalog"), database
			if isRole {
				user = pgtest.Role(t, database, append(grantsOf(t, "ezq_owner"), "grant all on all tables in schema pgmq to {role}", "grant all on schema public to {role}")...)
			}
			for name, run := range map[string]func(*overloadedEnv, *testing.T){
				"publish": (*overloadedEnv).publishAll, "conditions": (*overloadedEnv).publishOnConditions, "consume": (*overloadedEnv).consumeAll,
				"dead letters": (*overloadedEnv).handleDeadLetters, "stored": (*overloadedEnv).searchStored, "administer": (*overloadedEnv).administer,
				"keys": (*overloadedEnv).rememberKeys, "groups": (*overloadedEnv).consumeInGroups, "unreadable": (*overloadedEnv).screenUnreadable,
				"pauses": (*overloadedEnv).pauseTopic,
			} {
				t.Run(name, func(t *testing.T) {
					env := &overloadedEnv{database: user, admin: admin, topic: strings.ReplaceAll(name, " ", "_"), log: &logRecorder{}}
					execute(t, admin, "select setval('public.called', 1, false)")
					defer func() {
						called := get[string](t, admin, "select coalesce((select signature from public.overloads, public.called where n = last_value and is_called), '')")
						require.Empty(t, called, "an overload was called")
						require.NotContains(t, env.log.String(), "level=WARN")
						require.NotContains(t, env.log.String(), "level=ERROR")
					}()
					run(env, t)
				})
			}
		})
	}
}

func pgxSeparator(url string) string {
	if strings.Contains(url, "?") {
		return "&"
	}
	return "?"
}

// overloadedEnv is a topic in a database with overloads, and a pool that does not see these.
type overloadedEnv struct {
	database string
	admin    *pgxpool.Pool
	topic    string
	log      *logRecorder
}

func (env *overloadedEnv) open(t *testing.T, config pgmq.Config) *pgmq.Client {
	t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(env.log, nil))
	return openAt(t, env.database, config)
}

func (env *overloadedEnv) publishAll(t *testing.T) {
	client := env.open(t, pgmq.Config{})
	delayed := message.NewMessage("delayed", []byte("{}"))
	backend.SetDelay(delayed, time.Hour)
	require.NoError(t, client.Publish(env.topic, message.NewMessage("one", []byte("{}"))))
	require.NoError(t, client.Publish(env.topic, message.NewMessage("a", []byte("{}")), message.NewMessage("b", nil), delayed))
	require.NoError(t, pgx.BeginFunc(t.Context(), env.admin, func(tx pgx.Tx) error {
		return client.WithTx(tx).Publish(env.topic, message.NewMessage("in a transaction", nil))
	}))
	tx, err := env.publicPool(t).Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, client.WithTx(tx).Publish(env.topic, message.NewMessage("in a transaction", nil), message.NewMessage("in a transaction", nil)))
	require.NoError(t, client.WithTx(tx).Publish(env.topic+"_new", message.NewMessage("in a transaction", nil)))
	require.NoError(t, client.WithTx(tx).Publish(env.topic, conditional(t.Context(), "in a transaction", once(), 0)))
	require.NoError(t, client.WithTx(tx).Publish(env.topic, conditional(t.Context(), "in a transaction", unique("tx"), 0)))
	require.NoError(t, tx.Commit(t.Context()))
	for range 2 {
		now := get[time.Time](t, env.admin, "select clock_timestamp()")
		tick := &backend.ScheduleTick{Schedule: "nightly", At: now}
		require.NoError(t, client.Publish(env.topic, message.NewMessageWithContext(backend.WithScheduleTick(t.Context(), tick), watermill.NewUUID(), []byte("{}"))))
	}
	for _, config := range []pgmq.PublisherConfig{{NoNotify: true}, {NoCreate: true}} {
		require.NoError(t, env.open(t, pgmq.Config{Publisher: config}).Publish(env.topic, message.NewMessage("other", []byte("{}"))))
	}
}

func (env *overloadedEnv) publicPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return pgtest.Pool(t, env.database)
}

func (env *overloadedEnv) publishOnConditions(t *testing.T) {
	client := env.open(t, pgmq.Config{})
	for range 2 {
		for _, condition := range []*backend.PublishCondition{once(), unique("k"), replacing("r", 0), replacing("d", time.Hour)} {
			publishOnTopic(t, client, env.topic, "x", condition)
		}
		require.NoError(t, client.Publish(env.topic, conditional(t.Context(), "c", once(), time.Hour), conditional(t.Context(), "d", once(), 0), message.NewMessage("e", nil)))
	}
}

// receiveFrom returns n messages of the topic.
func (env *overloadedEnv) receiveFrom(t *testing.T, client *pgmq.Client, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := client.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

func (env *overloadedEnv) consumeAll(t *testing.T) {
	for name, config := range map[string]pgmq.SubscriberConfig{
		"leased": {LeaseOnly: true, Lease: 3 * time.Second, NackDelay: time.Millisecond},
		"locked": {NackDelay: time.Millisecond}, "archived": {Archive: true, ArchiveFor: time.Hour, NackDelay: time.Millisecond},
		"archived and leased": {Archive: true, LeaseOnly: true, NackDelay: time.Millisecond},
	} {
		topic := env.topic + "_" + strings.ReplaceAll(name, " ", "_")
		client := env.open(t, pgmq.Config{Subscriber: config})
		client.PruneEvery(10 * time.Millisecond)
		require.NoError(t, client.SubscribeInitialize(topic+"_dead"))
		messages := env.receiveFrom(t, client, topic)
		for _, outcome := range []func(*message.Message){
			func(msg *message.Message) { msg.Ack() },
			func(msg *message.Message) { msg.Nack(); receive(t, messages).Ack() },
			func(msg *message.Message) {
				backend.Nack(msg, backend.Redelivery{Failures: 2, Done: []string{"ship"}, Uncounted: true})
				receive(t, messages).Ack()
			},
			func(msg *message.Message) { backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: topic + "_dead"}) },
			func(msg *message.Message) {
				handled := client.TxMiddleware()(func(msg *message.Message) ([]*message.Message, error) {
					_, err := pgmq.TxFromContext(msg.Context()).Exec(t.Context(), "select true")
					return nil, err
				})
				_, err := handled(msg)
				require.NoError(t, err)
				msg.Ack()
			},
		} {
			require.NoError(t, client.Publish(topic, message.NewMessage("x", []byte("{}"))))
			outcome(receive(t, messages))
		}
		if config.Lease > 0 { // it is extended
			require.NoError(t, client.Publish(topic, message.NewMessage("x", []byte("{}"))))
			msg := receive(t, messages)
			before := get[time.Time](t, env.admin, "select vt from pgmq.q_"+topic)
			pgtest.Eventually(t, patience, "an extension", func() bool {
				return get[time.Time](t, env.admin, "select vt from pgmq.q_"+topic).After(before)
			})
			msg.Ack()
		}
		requireCount(t, env.admin, "pgmq.q_"+topic, 0)
		requireCount(t, env.admin, "pgmq.q_"+topic+"_dead", 1)
		if config.ArchiveFor > 0 { // it is pruned
			execute(t, env.admin, "update pgmq.a_"+topic+" set archived_at = now() - interval '2 hours'")
			requireCount(t, env.admin, "pgmq.a_"+topic, 0)
		}
		store, err := client.Store(t.Context(), topic)
		require.NoError(t, err)
		_, err = store.Claim(t.Context(), nil, 1, time.Hour)
		require.NoError(t, err)
	}
}

// selectDeadLetters selects by all that a selection may have, and edits a dead letter.
func (env *overloadedEnv) selectDeadLetters(t *testing.T, client *pgmq.Client, letter backend.FoundDeadLetter) {
	t.Helper()
	dead, hour := env.topic+"_dead", time.Hour
	require.NoError(t, client.EditDeadLetter(t.Context(), dead, backend.DeadLetterEdit{
		Row: letter.Row, Version: backend.FoundDeadLetter{Payload: []byte("{}")}.Version(), Payload: []byte("[]"), By: "ada",
	}))
	for _, s := range []backend.DeadLetterSelection{
		{Rows: []int64{letter.Row}, ID: "x", Topics: []string{env.topic}, From: time.Now().Add(-hour), To: time.Now().Add(hour), Header: backend.EditedBy, Value: "ada"},
		{ID: dead + "/17"},
		{Group: "g"},
		{Handler: "h"},
		{Event: "E"},
		{Reason: "r #"},
		{After: letter.Row},
	} {
		found, err := client.DeadLetters(t.Context(), dead, s)
		require.NoError(t, err)
		require.Equal(t, len(s.Rows), len(found))
		counts, err := client.CountDeadLetters(t.Context(), dead, s)
		require.NoError(t, err)
		require.Equal(t, len(s.Rows), len(counts))
		if len(s.Rows) == 0 {
			done, err := client.Redrive(t.Context(), dead, s)
			require.NoError(t, err)
			require.Zero(t, done)
			purged, err := client.PurgeDeadLetters(t.Context(), dead, s)
			require.NoError(t, err)
			require.Zero(t, purged)
		}
	}
}

func (env *overloadedEnv) handleDeadLetters(t *testing.T) {
	client := env.open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true, DeadLettersFor: time.Hour}})
	client.PruneEvery(10 * time.Millisecond)
	messages, dead := env.receiveFrom(t, client, env.topic), env.topic+"_dead"
	require.NoError(t, client.SubscribeInitialize(dead))
	for range 3 {
		require.NoError(t, client.Publish(env.topic, message.NewMessage("x", []byte("{}"))))
		backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: dead, Metadata: message.Metadata{backend.DeadLetterTopic: env.topic}})
	}
	requireCount(t, env.admin, "pgmq.q_"+dead, 3)
	_, err := client.DeadLetters(t.Context(), dead, backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	letters, err := client.DeadLetterHeads(t.Context(), dead, backend.DeadLetterSelection{Limit: 10})
	require.NoError(t, err)
	require.Len(t, letters, 3)
	_, err = client.ReadDeadLetter(t.Context(), dead, letters[0].Row, 1000)
	require.NoError(t, err)
	origins, err := client.Origins(t.Context(), dead, backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, origins, 1)
	env.selectDeadLetters(t, client, letters[2])
	moved, err := redrive(t.Context(), client, dead, 1, env.topic)
	require.NoError(t, err)
	require.Equal(t, 1, moved)
	receive(t, messages).Ack()
	deleted, err := purgeDeadLetters(t.Context(), client, dead)
	require.NoError(t, err)
	require.Equal(t, 2, deleted)
	requireCount(t, env.admin, "pgmq.q_"+env.topic, 0)
	replayed, err := client.Replay(t.Context(), env.topic, pgmq.ReplayFilter{})
	require.NoError(t, err)
	require.Equal(t, 1, replayed)
	receive(t, messages).Ack()
	requireCount(t, env.admin, "pgmq.q_"+env.topic, 0)
	deleted, err = client.PurgeArchive(t.Context(), env.topic, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Positive(t, deleted)
	execute(t, env.admin, fmt.Sprintf(`insert into pgmq.q_%s (enqueued_at, vt, message, headers) values (now() - interval '2 hours', now(), '1', '{"topic_poisoned":"%s"}')`, dead, env.topic))
	requireCount(t, env.admin, "pgmq.q_"+dead, 0)
}

func (env *overloadedEnv) searchStored(t *testing.T) {
	client := env.open(t, pgmq.Config{})
	selections := []backend.Selection{{ID: "a"}, {ID: env.topic + "/1"}, {UniqueKey: "k"}, {Event: "Created"}, {Header: "tenant", Value: "x"}, {ID: "a", UniqueKey: "k", Event: "e", Header: "h", Value: "v"}}
	for range 2 { // the second time with indexes
		publishOnTopic(t, client, env.topic, "a", unique("k"))
		for _, selection := range selections {
			_, err := client.Find(t.Context(), env.topic, selection)
			require.NoError(t, err)
			if selection.ID == "" && selection.UniqueKey == "" || selection.Event != "" {
				continue
			}
			_, err = client.Reschedule(t.Context(), env.topic, selection, time.Now().Add(time.Hour))
			require.NoError(t, err)
			_, err = client.Cancel(t.Context(), env.topic, selection)
			require.NoError(t, err)
		}
		execute(t, env.admin, strings.ReplaceAll("create index on {q} using hash ((headers->'ezq_uuid')); create index on {q} using hash ((headers->'tenant'));"+
			"create index on {q} using hash ((coalesce(message->'_type', headers->'name')))", "{q}", "pgmq.q_"+env.topic))
	}
	publishOnTopic(t, client, env.topic, "a", unique("k"))
	found, err := client.Find(t.Context(), env.topic, backend.Selection{UniqueKey: "k"})
	require.NoError(t, err)
	require.Len(t, found, 1)
}

func (env *overloadedEnv) administer(t *testing.T) {
	client := env.open(t, pgmq.Config{})
	require.NoError(t, client.CreateQueue(t.Context(), env.topic, nil))
	require.NoError(t, client.CreateQueue(t.Context(), env.topic+"_unlogged", &pgmq.QueueOptions{Kind: pgmq.QueueUnlogged}))
	require.NoError(t, client.Tune(t.Context(), env.topic, nil))
	require.NoError(t, client.Publish(env.topic, message.NewMessage("x", nil)))
	_, err := client.Queues(t.Context())
	require.NoError(t, err)
	_, err = client.Metrics(t.Context(), env.topic)
	require.NoError(t, err)
	_, err = client.AllMetrics(t.Context())
	require.NoError(t, err)
	_, err = client.Check(t.Context())
	require.NoError(t, err)
	purged, err := client.PurgeQueue(t.Context(), env.topic)
	require.NoError(t, err)
	require.Equal(t, 1, purged)
	existed, err := client.DropQueue(t.Context(), env.topic)
	require.NoError(t, err)
	require.True(t, existed)
}

func (env *overloadedEnv) rememberKeys(t *testing.T) {
	store, err := env.open(t, pgmq.Config{}).KeyStore(t.Context(), "public.ezq_seen_"+env.topic)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, store.Mark(t.Context(), "k", time.Hour))
		seen, err := store.Seen(t.Context(), "k")
		require.NoError(t, err)
		require.True(t, seen)
	}
}

func (env *overloadedEnv) consumeInGroups(t *testing.T) {
	client := env.open(t, pgmq.Config{})
	require.NoError(t, client.Publish(env.topic, message.NewMessage("before", nil)))
	mail := env.open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mail"}})
	messages := env.receiveFrom(t, mail, env.topic)
	require.NoError(t, client.Publish(env.topic, message.NewMessage("a", nil), message.NewMessage("b", nil)))
	for range 2 {
		receive(t, messages).Ack()
	}
	for _, condition := range []*backend.PublishCondition{once(), unique("k"), replacing("k", time.Second)} {
		publishOnTopic(t, client, env.topic, "x", condition)
		receive(t, messages).Ack()
	}
	_ = env.receiveFrom(t, mail, "only_"+env.topic)
	require.NoError(t, client.Publish("only_"+env.topic, message.NewMessage("a", nil)))
	_, err := client.Find(t.Context(), env.topic, backend.Selection{ID: "a"})
	require.NoError(t, err)
	env.log = &logRecorder{} // that a new group does not get what was there
}

func (env *overloadedEnv) pauseTopic(t *testing.T) {
	client := env.open(t, pgmq.Config{})
	_ = env.receiveFrom(t, client, env.topic)
	for range 2 {
		_, err := client.Pause(t.Context(), env.topic, backend.Pause{For: time.Hour, By: "me", Reason: "because"})
		require.NoError(t, err)
	}
	for _, list := range []func() ([]backend.Paused, error){
		func() ([]backend.Paused, error) { return client.Pauses(t.Context(), env.topic) }, func() ([]backend.Paused, error) { return client.AllPauses(t.Context()) },
	} {
		held, err := list()
		require.NoError(t, err)
		require.Len(t, held, 1)
	}
	resumed, err := client.Resume(t.Context(), env.topic)
	require.NoError(t, err)
	require.True(t, resumed)
}

// Messages that cannot be read are found one by one, and hidden.
func (env *overloadedEnv) screenUnreadable(t *testing.T) {
	config := withMaxMessage(1 << 20)
	config.Subscriber.Archive, config.Subscriber.NackDelay = true, time.Millisecond
	client := env.open(t, config)
	require.NoError(t, client.SubscribeInitialize(env.topic))
	execute(t, env.admin, strings.Replace(bomb(50), "'t'", "'"+env.topic+"'", 1))
	execute(t, env.admin, "insert into pgmq.q_"+env.topic+` (vt, message, headers) values (now(), '{}', '{`+forgedProgress+`}'), (now(), '{}', '5'), ('-infinity', '{}', null)`)
	messages := env.receiveFrom(t, client, env.topic)
	receive(t, messages).Nack() // without what only ezq may say
	for range 2 {
		receive(t, messages).Ack()
	}
	pgtest.Eventually(t, patience, "the others are hidden", func() bool {
		return get[int](t, env.admin, "select count(*) from pgmq.q_"+env.topic+" where vt <= now()") == 0
	})
	env.log = &logRecorder{}
}
