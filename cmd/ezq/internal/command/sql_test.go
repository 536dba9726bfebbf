package command

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// snapshot is all that is in the schema pgmq, and whose names are not chosen by chance.
const snapshot = `
select pg_catalog.string_agg(line, e'\n' order by line) from (
	select 'table ' || relname || relkind::text || relpersistence::text || coalesce(reloptions::text, '') || coalesce(pg_catalog.obj_description(oid, 'pg_class'), '') as line
	from pg_class where relnamespace = 'pgmq'::regnamespace
	union all select 'column ' || attrelid::regclass::text || ' ' || attname || ' ' || atttypid::regtype::text from pg_attribute join pg_class c on c.oid = attrelid
	where relnamespace = 'pgmq'::regnamespace and attnum > 0
	union all select 'index ' || indexdef from pg_indexes where schemaname = 'pgmq'
	union all select 'function ' || oid::regprocedure::text || prosrc from pg_proc where pronamespace = 'pgmq'::regnamespace
	union all select 'binding ' || pattern || ' ' || queue_name from pgmq.topic_bindings
	union all select 'queue ' || queue_name || is_unlogged from pgmq.meta) as lines`

func TestSQL_MakesWhatInstallAndInitMake(t *testing.T) {
	t.Parallel()
	service := serviceFile(t, `{"topics": [
		{"topic": "orders", "groups": ["mailer"], "own_queue": true, "tune": true, "indexes": ["key", "id", "event", "header:it's", "field:order.id"], "archive_indexes": ["id"]},
		{"topic": "Payments!", "kind": "unlogged", "groups": ["a b"]}, {"topic": "shop.*", "groups": ["audit"]},
		{"topic": "a_h0123456789abcdef0123", "groups": ["x"]}, {"topic": "a.b-C"}]}`)
	commands := withPGMQ(t)
	code, _, errOut := outputOf(t, commands, "init", "--file", service, "--yes")
	require.Zero(t, code, errOut)

	migrated := pgtest.EmptyDatabase(t)
	conn, err := pgx.Connect(t.Context(), migrated)
	require.NoError(t, err)
	for _, args := range [][]string{{"--file", pgmqFile(t)}, {"--what", "ezq"}, {"--services", service}} {
		var out strings.Builder
		code = Run(t.Context(), append([]string{"sql"}, args...), Process{Out: &out, Err: &out, Lookup: lookupIn(nil)})
		require.Zero(t, code, out.String())
		_, err := conn.PgConn().Exec(t.Context(), "begin; "+out.String()).ReadAll()
		require.NoError(t, err)
		var path string
		require.NoError(t, conn.QueryRow(t.Context(), "show search_path").Scan(&path))
		require.Equal(t, `"$user", public`, path, "the tool has more to do in its transaction")
		_, err = conn.Exec(t.Context(), "commit")
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close(t.Context()))
	require.Equal(t, ask[string](t, commands, snapshot), ask[string](t, migrated, snapshot))
}

func TestSQL_IsWhatAToolTakes(t *testing.T) {
	t.Parallel()
	code, out, errOut := outputOn(t, nil, "", "sql", "--format", "goose", "--extension")
	require.Zero(t, code, errOut)
	require.Regexp(t, `(?s)^-- \+goose Up\n-- \+goose StatementBegin\n.*create extension if not exists pgmq;\n.*-- \+goose StatementEnd\n$`, out)
	for _, args := range [][]string{{"--what", "x"}, {"--what", "queues"}, {"orders", "--what", "all"}, {"--format", "flyway2"}} {
		code, _, _ := outputOn(t, nil, "", append([]string{"sql"}, args...)...)
		require.Equal(t, exitUsage, code, args)
	}
}
