package pgmq_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/backend/pgmq/internal/hazard"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// findings returns what Check finds of the database of the test: what other tests do to the server does not count, nor
// that its durability is switched off.
func findings(t *testing.T, client *pgmq.Client) []pgmq.Finding {
	t.Helper()
	found, err := client.Check(t.Context())
	require.NoError(t, err)
	return slices.DeleteFunc(found, func(f pgmq.Finding) bool {
		return f.ID == "durability" || f.ID == "connections" || f.ID == "notification-queue" || f.ID == "replication-slot"
	})
}

// The database of a service that uses most of ezq is healthy.
func TestCheck_FindsNothingInHealthyDatabase(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	group := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "billing", Archive: true}})
	require.NoError(t, group.SubscribeInitialize("orders"))
	require.NoError(t, client.SubscribeInitialize("Ümlaut / topic"))
	publish(t, client, "x")
	publishOn(t, client, "id", once(), 0)
	publishOn(t, client, "key", unique("k"), time.Hour)
	require.NoError(t, client.CreateQueue(t.Context(), "orders_dead", nil))
	require.NoError(t, client.Tune(t.Context(), "t", nil))
	_, err := client.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "test", For: time.Hour})
	require.NoError(t, err)
	_, err = client.Resume(t.Context(), "t")
	require.NoError(t, err)
	require.Empty(t, findings(t, client))
}

func TestCheck_TellsTheMostSevereFirst(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	execute(t, pgtest.Pool(t, database), "select pgmq.create_unlogged('notes'), pgmq.create('orders'); "+
		"drop index pgmq.q_orders_vt_idx; alter table pgmq.q_orders set (autovacuum_enabled = off)")
	found := findings(t, client)
	require.Len(t, found, 3)
	require.Equal(t, "autovacuum-off", found[0].ID)
	require.Equal(t, pgmq.Finding{
		ID: "missing-index", Severity: pgmq.SeverityWarning, Object: "orders", Seen: "no index begins with vt",
		Remedy: "create it: each claim reads the whole table", SQL: "create index concurrently on pgmq.q_orders (vt)",
	}, found[1])
	require.Equal(t, pgmq.SeverityNote, found[2].Severity)
	text, err := json.Marshal(found[2])
	require.NoError(t, err)
	require.JSONEq(t, `{"id": "unlogged-queue", "severity": "note", "object": "notes", "seen": "its table is unlogged",
		"remedy": "leave it if its events may be lost in a crash", "sql": "alter table pgmq.q_notes set logged"}`, string(text))
}

func TestCheck_FindsMissingPGMQ(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	client, err := pgmq.New(pgtest.Pool(t, database), nil)
	require.NoError(t, err)
	found, err := client.Check(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "not-installed", found[0].ID)
	require.Equal(t, pgmq.SeverityFailure, found[0].Severity)
	require.Contains(t, found[0].Remedy, "CREATE EXTENSION pgmq")
}

func TestCheck_FindsTableOfUntrustedRole(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('orders')")
	stranger := pgtest.Pool(t, pgtest.Role(t, database, "grant usage, create on schema pgmq to {role}", "grant create on schema public to {role}"))
	execute(t, stranger, "create function public.f() returns trigger language plpgsql as 'begin return new; end'")
	execute(t, stranger, `create table pgmq.q_orders_dead (msg_id bigint primary key generated always as identity, read_ct int default 0 not null,
		enqueued_at timestamptz default now() not null, last_read_at timestamptz, vt timestamptz not null, message jsonb, headers jsonb); `+
		"create trigger tr before insert on pgmq.q_orders_dead for each row execute function public.f()")
	untrusted := func(client *pgmq.Client) []pgmq.Finding {
		return slices.DeleteFunc(findings(t, client), func(f pgmq.Finding) bool { return f.ID != "untrusted-table" })
	}
	client, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	found := untrusted(client)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Object, "q_orders_dead")

	client, err = pgmq.New(pool, &pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}, Subscriber: pgmq.SubscriberConfig{NoCreate: true}})
	require.NoError(t, err)
	require.Empty(t, untrusted(client))
}

// A role that may see little is told what was not looked for, and the rest is.
func TestCheck_SaysWhatTheRoleMayNotSee(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('orders'); drop index pgmq.q_orders_vt_idx; revoke select on pgmq.meta from public")
	client, err := pgmq.New(pgtest.Pool(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}")), nil)
	require.NoError(t, err)
	ids := map[string]string{}
	for _, f := range findings(t, client) {
		ids[f.ID+" "+f.Object] = f.Remedy
	}
	require.Contains(t, ids, "missing-index orders")
	for _, object := range []string{"meta-mismatch", "events", "sessions"} {
		require.Contains(t, ids["not-checked "+object], "docs/doctor.md", object)
	}
}

// With the grants of the page a role sees all, and with one less it is told.
func TestCheck_NeedsDocumentedGrants(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/doctor.md")
	require.NoError(t, err)
	var grants []string
	for _, grant := range regexp.MustCompile(`(?m)^(grant .* to )ezq_doctor;$`).FindAllStringSubmatch(string(page), -1) {
		grants = append(grants, grant[1]+"{role}")
	}
	require.NotEmpty(t, grants)
	database := pgtest.Database(t)
	execute(t, pgtest.Pool(t, database), "select pgmq.create('orders')")
	owner := openAt(t, database, pgmq.Config{})
	_, err = owner.Pause(t.Context(), "orders", backend.Pause{By: "ada", Reason: "this creates the table"})
	require.NoError(t, err)
	require.NoError(t, owner.Publish("orders", message.NewMessage("1", nil)))
	notChecked := func(grants []string) []pgmq.Finding {
		client, err := pgmq.New(pgtest.Pool(t, pgtest.Role(t, database, grants...)), nil)
		require.NoError(t, err)
		found, err := client.Check(t.Context())
		if err != nil { // without USAGE on the schema nothing can be looked at
			return []pgmq.Finding{{}}
		}
		require.False(t, slices.ContainsFunc(found, func(f pgmq.Finding) bool { return f.ID == "sequence-behind" }), "what the role may not read is behind nothing: %+v", found)
		return slices.DeleteFunc(found, func(f pgmq.Finding) bool { return f.ID != "not-checked" })
	}
	require.Empty(t, notChecked(grants))
	for i, grant := range grants {
		require.NotEmpty(t, notChecked(slices.Delete(slices.Clone(grants), i, i+1)), grant)
	}
}

func TestCheck_ComparesClocks(t *testing.T) {
	t.Parallel()
	client := openAt(t, pgtest.Database(t), pgmq.Config{})
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		found, err := client.CheckAt(t.Context(), func() time.Time { return time.Now().Add(skew) })
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(found, func(f pgmq.Finding) bool {
			return f.ID == "clock-skew" && (strings.Contains(f.Seen, "1h0m") || strings.Contains(f.Seen, "59m5"))
		}), found)
	}
}

// A table that is not as PGMQ makes it hides no hazard of another.
func TestCheck_OfOddTableHidesNoOther(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('a'), pgmq.create('b'), pgmq.create('z')")
	execute(t, pool, "insert into pgmq.q_z (vt, read_ct) values (now(), 99); alter table pgmq.q_a alter vt type text")
	execute(t, pool, "create index on pgmq.q_b ((read_ct / 0)) where read_ct < 0")
	locking, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, locking.Rollback(t.Context())) }()
	_, err = locking.Exec(t.Context(), "lock table pgmq.q_b in access exclusive mode")
	require.NoError(t, err)
	kinds := map[string]string{}
	for _, f := range findings(t, openAt(t, database, pgmq.Config{})) {
		kinds[f.ID+" "+f.Object] = f.Seen
	}
	require.Contains(t, kinds, "many-deliveries z")
	require.Contains(t, kinds["not-checked many-deliveries"], "locked")
	require.Contains(t, kinds["not-checked events"], "a among them")
}

// Expressions of an index, a constraint or statistics are run by the planner, and those of a view by the reader. And a table that is
// locked keeps no one waiting.
func TestCheck_RunsNoCodeOfUntrustedRoles(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create schema hostile; grant usage on schema hostile to public; select pgmq.create('orders'); insert into pgmq.q_orders (vt, read_ct) values (now(), 99)")
	stranger := pgtest.Pool(t, pgtest.Role(t, database, "grant usage, create on schema pgmq to {role}", "grant create on schema hostile to {role}"))
	execute(t, stranger, `create function hostile.run(role text) returns boolean immutable language plpgsql as
		'begin if current_user <> role then raise exception using errcode = ''57014'', message = ''it was run''; end if; return true; end'`)
	const columns = "(msg_id bigint, read_ct int, enqueued_at timestamptz, last_read_at timestamptz, vt timestamptz not null, message jsonb, headers jsonb)"
	for _, sql := range []string{
		"create table pgmq.q_index " + columns, "create index on pgmq.q_index (vt) where hostile.run('%s')",
		"create table pgmq.q_statistics " + columns, "create statistics hostile.s on hostile.run('%s'), vt from pgmq.q_statistics",
		"create table pgmq.q_parent " + columns, "create table pgmq.child (check (hostile.run('%s'))) inherits (pgmq.q_parent)",
		"create view pgmq.ezq_pauses as select 'a' as queue, 'b' as paused_by, 'c' as reason, now() as since, null::timestamptz as until where hostile.run('%s')",
		"create table pgmq.q_locked " + columns, "create index on pgmq.q_locked ((msg_id + 1))",
	} {
		execute(t, stranger, strings.ReplaceAll(sql, "%s", stranger.Config().ConnConfig.User))
	}
	locking, err := stranger.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, locking.Rollback(context.Background())) }()
	_, err = locking.Exec(t.Context(), "lock table pgmq.q_locked in access exclusive mode")
	require.NoError(t, err)

	for _, trusting := range []bool{false, true} {
		client, err := pgmq.New(pool, &pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: trusting}, Subscriber: pgmq.SubscriberConfig{NoCreate: trusting}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		found, err := client.Check(ctx)
		cancel()
		require.NoError(t, err)
		kinds := map[string]string{}
		for _, f := range found {
			require.NotContains(t, f.Seen, "took too long", f.Object)
			kinds[f.ID+" "+f.Object] = f.Seen
		}
		require.Contains(t, kinds, "many-deliveries orders")
		require.Contains(t, kinds["not-checked paused-topic"], "pgmq.ezq_pauses")
		require.Contains(t, kinds["not-checked events"], "those of 4 queues")
		require.Contains(t, kinds["not-checked untrusted-table"], "locked")
		_, told := kinds["untrusted-table table pgmq.q_index"]
		require.Equal(t, !trusting, told)
	}
}

func TestCheck_NamesPooler(t *testing.T) {
	t.Parallel()
	client, err := pgmq.New(pgtest.Pool(t, throughPooler(t, pgtest.Database(t))), nil)
	require.NoError(t, err)
	require.Equal(t, "pooler", findings(t, client)[0].ID)
}

// A name with control characters changes no terminal, and comes with no SQL that would be about another object.
func TestCheck_ShowsHostileNames(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	name := "q_\x1b[2J'; drop table x; --\u202e"
	execute(t, pgtest.Pool(t, database), fmt.Sprintf("create table pgmq.%s (msg_id bigint, read_ct int, vt timestamptz, last_read_at timestamptz)", pgx.Identifier{name}.Sanitize())+
		fmt.Sprintf("; insert into pgmq.%s values (1, 100, now() - interval '2 days')", pgx.Identifier{name}.Sanitize()))
	found := findings(t, openAt(t, database, pgmq.Config{}))
	require.NotEmpty(t, found)
	for _, f := range found {
		require.NotContains(t, f.Object+f.Seen+f.SQL, "\x1b")
		require.NotContains(t, f.Object+f.Seen+f.SQL, "\u202e")
		if strings.Contains(f.Object, "drop table") {
			require.Empty(t, f.SQL)
		}
	}
}

// checkedQueues and checkedEvents may be more than the gate has time for: go test -run TestCheck_Of -check.queues=1000
// -check.events=10000000.
var (
	checkedQueues = flag.Int("check.queues", 100, "how many queues TestCheck_OfManyQueuesIsShort has")
	checkedEvents = flag.Int("check.events", 100_000, "how many events are in one of them")
)

// The cost is bounded, whatever there is: a statement that takes 5 seconds would be a finding.
func TestCheck_OfManyQueuesIsShort(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	for n := range *checkedQueues {
		execute(t, pool, fmt.Sprintf("select pgmq.create('q%d')", n))
	}
	execute(t, pool, fmt.Sprintf("insert into pgmq.q_q7 (vt, message) select now(), '{}' from generate_series(1, %d); analyze pgmq.q_q7", *checkedEvents))
	start := time.Now()
	require.Empty(t, findings(t, openAt(t, database, pgmq.Config{})))
	t.Log("it took", time.Since(start).Round(time.Millisecond))
}

// Each kind has a section in docs/doctor.md, with the severity that it has.
func TestCheck_IsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/doctor.md")
	require.NoError(t, err)
	severity, documented := "", map[string]string{}
	for line := range strings.Lines(string(page)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			severity = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(title), "s"))
		} else if id, ok := strings.CutPrefix(line, "### "); ok {
			documented[strings.TrimSpace(id)] = severity
		}
	}
	want := map[string]string{ // those that SQL alone does not find
		"not-installed": "failure", "untrusted-table": "failure", "clock-skew": "warning", "pooler": "note", "not-checked": "note",
	}
	for _, h := range hazard.All() {
		want[h.ID] = pgmq.Severity(h.Severity).String()
	}
	require.Equal(t, want, documented)
}
