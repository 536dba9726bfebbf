package setup

import (
	"strings"

	"github.com/ezq-go/ezq/internal/schema"
)

// OwnSQL is what ezq adds to PGMQ, as far as it is missing: its tables, and the queue of the schedules.
func OwnSQL() string {
	ids := strings.Replace(schema.KeysTableSQL(schema.IDsTable), "create index on", "create index if not exists ezq_ids_until_idx on", 1)
	return strings.ReplaceAll(strings.ReplaceAll(ids, "create table", "create table if not exists"), "; ", ";\n") + ";\n" +
		strings.Replace(schema.PausesTableSQL(), "create table", "create table if not exists", 1) + ";\n" +
		"select pgmq.create('" + schema.Schedules + "'::text);\n"
}

// Migration returns SQL as a migration of a tool that may have more to do in the same transaction: the search_path, which
// must not lead to functions of others, is the former one then.
func Migration(sql string) string {
	return "select pg_catalog.set_config('ezq.search_path', pg_catalog.current_setting('search_path'), true);\n" + ownPath +
		sql + "select pg_catalog.set_config('search_path', pg_catalog.current_setting('ezq.search_path'), true);\n"
}
