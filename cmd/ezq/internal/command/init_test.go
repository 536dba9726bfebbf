package command

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// withPGMQ returns a database that has PGMQ, and what ezq adds.
func withPGMQ(t *testing.T) string {
	t.Helper()
	database := pgtest.EmptyDatabase(t)
	code, _, errOut := installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	return database
}

func serviceFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ezq.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestInit_CreatesWhatAServiceNeedsOnce(t *testing.T) {
	t.Parallel()
	database := withPGMQ(t)
	file := serviceFile(t, `{"topics": [
		{"topic": "orders", "groups": ["mailer"], "tune": true, "indexes": ["key", "id", "event", "header:tenant", "field:order.id"], "archive_indexes": ["id"]},
		{"topic": "Payments!", "kind": "unlogged", "dead_letters": false}]}`)
	before := ask[int](t, database, things)
	code, planned, errOut := outputOf(t, database, "init", "--file", file, "--dry-run")
	require.Zero(t, code, errOut)
	require.Equal(t, before, ask[int](t, database, things), "a dry run changes nothing")

	code, out, errOut := outputOf(t, database, "init", "--file", file, "--yes")
	require.Zero(t, code, errOut)
	require.Equal(t, planned+"done\n", out)
	require.Contains(t, out, `- create the queue orders_mailer_h`)
	require.Equal(t, 5, ask[int](t, database, "select count(*) from pg_indexes where schemaname = 'pgmq' and tablename like 'q_orders_mailer_h%' and indexname like 'ezq_%'"))
	require.Equal(t, 1, ask[int](t, database, "select count(*) from pg_indexes where schemaname = 'pgmq' and tablename like 'a_orders_mailer_h%' and indexname like 'ezq_id_%'"))
	require.True(t, ask[bool](t, database, "select exists (select from pgmq.topic_bindings where pattern = 'orders')"))
	require.True(t, ask[bool](t, database, "select relpersistence = 'u' from pg_class where relkind = 'r' and relname like 'q_payments_h%'"))
	require.Equal(t, `ezq: topic "Payments!"`, ask[string](t, database, "select obj_description(oid, 'pg_class') from pg_class where relkind = 'r' and relname like 'q_payments_h%'"))

	code, out, errOut = outputOf(t, database, "init", "--file", file, "--yes")
	require.Zero(t, code, errOut)
	require.Regexp(t, `(?s)^is there: the queue orders_mailer_h.*is there: the settings of .*nothing is to be done\n$`, out)
	require.NotContains(t, out, "- ")
}

func TestInit_TellsWhatDiffers(t *testing.T) {
	t.Parallel()
	database := withPGMQ(t)
	code, _, errOut := outputOf(t, database, "init", "orders", "--yes")
	require.Zero(t, code, errOut)
	code, out, errOut := outputOf(t, database, "init", "orders", "--kind", "unlogged", "--yes")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, errOut, `the queue orders, of the topic "orders" is plain, and unlogged is asked for: to change that, drop it first`)
	require.True(t, ask[bool](t, database, "select relpersistence = 'p' from pg_class where oid = 'pgmq.q_orders'::regclass"))
}

// A group that is bound stops each publisher that may not insert into its queue.
func TestInit_BindsNoGroupThatStopsAPublisher(t *testing.T) {
	t.Parallel()
	database := withPGMQ(t)
	code, _, errOut := outputOf(t, database, "init", "orders", "--yes")
	require.Zero(t, code, errOut)
	u, err := url.Parse(pgtest.Role(t, database))
	require.NoError(t, err)
	shop := u.User.Username()
	code, _, errOut = outputOf(t, database, "grants", "--role", shop, "--publish", "orders", "--apply")
	require.Zero(t, code, errOut)
	const bound = "select exists (select from pgmq.topic_bindings where queue_name like 'orders_mailer_h%')"

	code, _, errOut = outputOf(t, database, "init", "orders", "--group", "mailer", "--yes")
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `is not bound to its topic: the roles `+shop+` publish to it, and may not insert into that queue.*Run ezq grants --role ROLE --publish orders --group mailer --apply`, errOut)
	require.False(t, ask[bool](t, database, bound))
	require.True(t, ask[bool](t, database, "select exists (select from pgmq.meta where queue_name like 'orders_mailer_h%')"), "the queue is created")

	code, _, errOut = outputOf(t, database, "grants", "--role", shop, "--publish", "orders", "--group", "mailer", "--apply")
	require.Zero(t, code, errOut)
	code, _, errOut = outputOf(t, database, "init", "orders", "--group", "mailer", "--yes")
	require.Zero(t, code, errOut)
	require.True(t, ask[bool](t, database, bound))
	code, _, errOut = outputOf(t, database, "init", "orders", "--group", "billing", "--yes", "--bind")
	require.Zero(t, code, errOut)
	require.True(t, ask[bool](t, database, "select exists (select from pgmq.topic_bindings where queue_name like 'orders_billing_h%')"))
}

// The words of two names can be the same, and PostgreSQL cuts those that are too long.
func TestInit_BuildsEachIndexThatIsAskedFor(t *testing.T) {
	t.Parallel()
	database := withPGMQ(t)
	long := strings.Repeat("t", 40)
	args := []string{
		"init", "shop", long, "--index", "field:order.id", "--index", "field:order_id", "--index", "field:customer.address.street",
		"--index", "field:customer.address.number", "--index", `header:it's \"a"`, "--index", "key", "--index", "id", "--index", "event",
	}
	code, out, errOut := outputOf(t, database, append(args, "--yes")...)
	require.Zero(t, code, errOut)
	require.Equal(t, 2*8, strings.Count(out, "- build the index "), out)
	require.Equal(t, 2*8, ask[int](t, database, "select count(distinct (tablename, regexp_replace(indexdef, ' INDEX .* ON ', ''))) from pg_indexes where schemaname = 'pgmq' and tablename like 'q\\_%' and indexname like 'ezq_%'"))
	code, out, errOut = outputOf(t, database, append(args, "--yes")...)
	require.Zero(t, code, errOut)
	require.Equal(t, 2*8, strings.Count(out, "is there: the index "), out)

	code, sql, errOut := outputOf(t, database, append([]string{"sql"}, args[1:]...)...)
	require.Zero(t, code, errOut)
	other := withPGMQ(t)
	pgtest.Exec(t, pgtest.Pool(t, other), sql)
	require.Equal(t, 2*8, ask[int](t, other, "select count(*) from pg_indexes where schemaname = 'pgmq' and tablename like 'q\\_%' and indexname like 'ezq_%'"))
	code, out, errOut = outputOf(t, other, append(args, "--yes")...)
	require.Zero(t, code, errOut)
	require.Equal(t, 2*8, strings.Count(out, "is there: the index "), out)
}

// An index is what it is on. Versions before this one gave it another name.
func TestInit_KnowsAnIndexByWhatItIsOn(t *testing.T) {
	t.Parallel()
	database := withPGMQ(t)
	pgtest.Exec(t, pgtest.Pool(t, database), `select pgmq.create('shop');
		create index ezq_field_q_shop_order_id on pgmq.q_shop using hash ((message->'order_id'::text))`)
	code, out, errOut := outputOf(t, database, "init", "shop", "--index", "field:order_id", "--yes")
	require.Zero(t, code, errOut)
	require.Contains(t, out, `is there: the index "ezq_field_q_shop_order_id"`)
	for range 2 {
		code, out, errOut = outputOf(t, database, "init", "shop", "--index", "field:order.id", "--yes")
		require.Equal(t, exitFailed, code, out)
		require.Contains(t, errOut, `the index "ezq_field_q_shop_order_id" on "pgmq"."q_shop" cannot be built: something else has its name. Drop that, or give it another name, as with alter index "pgmq"."ezq_field_q_shop_order_id" rename to`)
	}
	require.True(t, ask[bool](t, database, "select indisvalid from pg_index where indexrelid = 'pgmq.ezq_field_q_shop_order_id'::regclass"), "it is not dropped")
	pgtest.Exec(t, pgtest.Pool(t, database), `alter index pgmq.ezq_field_q_shop_order_id rename to other_name`)
	code, out, errOut = outputOf(t, database, "init", "shop", "--index", "field:order.id", "--index", "field:order_id", "--yes")
	require.Zero(t, code, errOut)
	require.Contains(t, out, `is there: the index "other_name"`)
	require.Contains(t, out, `- build the index "ezq_field_q_shop_order_id"`)
}

func TestInit_RefusesWhatIsThereTwice(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`the group "m" of the topic "shop" is there twice`:  {"--group", "m", "--group", "m"},
		`the index "id" of the topic "shop" is there twice`: {"--index", "id", "--index", "id"},
	} {
		for _, command := range []string{"init", "sql"} {
			code, _, errOut := outputOn(t, nil, "", append([]string{command, "shop"}, args...)...)
			require.Equal(t, exitFailed, code)
			require.Contains(t, errOut, want)
		}
	}
}

// An index whose build was interrupted has the name, and finds nothing.
func TestInit_BuildsAnInterruptedIndexAgain(t *testing.T) {
	t.Parallel()
	database := withPGMQ(t)
	code, _, errOut := outputOf(t, database, "init", "orders", "--index", "id", "--yes")
	require.Zero(t, code, errOut)
	pgtest.Exec(t, pgtest.Pool(t, database), "update pg_index set indisvalid = false where indexrelid = 'pgmq.ezq_id_q_orders'::regclass")
	code, out, errOut := outputOf(t, database, "init", "orders", "--index", "id", "--yes")
	require.Zero(t, code, errOut)
	require.Contains(t, out, `build the index "ezq_id_q_orders" on "pgmq"."q_orders"; what has its name was not built to its end, and is dropped`)
	require.True(t, ask[bool](t, database, "select indisvalid from pg_index where indexrelid = 'pgmq.ezq_id_q_orders'::regclass"))
}

func TestInit_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"topics": [{"topic": "a", "grops": ["b"]}]}`:          `there is no field "grops": did you mean "groups"`,
		`{"topic": [{"topic": "a"}]}`:                           `is a array, and must be a|no field|has no topics|must be`,
		`{"topics": [{"topic": "a", "kind": "unloged"}]}`:       `has the kind "unloged": did you mean "unlogged"`,
		`{"topics": [{"topic": "a"}, {"topic": "a"}]}`:          `the topic "a" is there twice`,
		`{"topics": [{"topic": ""}]}`:                           `topic`,
		`{"topics": [{"topic": "orders.*"}]}`:                   `is a pattern, which only groups take`,
		`{"topics": [{"topic": "ezq_schedules"}]}`:              `is ezq's own`,
		`{"topics": [{"topic": "a", "indexes": ["heder:x"]}]}`:  `there is no index "heder:x"`,
		`{"topics": [{"topic": "a", "partition_interval": 7}]}`: `has intervals, which are for the kind partitioned`,
		"{\"topics\": [\n{\"topic\": 7}]}":                      `line 2: topics.topic is a number, and must be a string`,
		"{\"topics\":\n\n[}":                                    `line 3 is no JSON`,
		`{"topics": [{"topic": "a"}]} {}`:                       `behind the end of the JSON`,
		`{}`:                                                    `has no topics`,
	} {
		code, _, errOut := outputOn(t, nil, "", "init", "--file", serviceFile(t, text))
		require.Equal(t, exitFailed, code, text)
		require.Regexp(t, want, errOut)
	}
	for _, args := range [][]string{{"init"}, {"init", "orders", "--file", "x"}} {
		code, _, _ := outputOn(t, nil, "", args...)
		require.Equal(t, exitUsage, code)
	}
}

func TestInit_WithoutPGMQSaysHowToInstallIt(t *testing.T) {
	t.Parallel()
	code, _, errOut := outputOf(t, pgtest.EmptyDatabase(t), "init", "orders", "--yes")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "no function pgmq.create")
}
