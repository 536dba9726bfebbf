package catalog

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// KeysSQL is what an index of unique keys is on, and which rows it has. A key has at most 303 characters; more, which
// only another program can have written, would not fit an index. What is no string is not in the index: its text could
// have a gigabyte, and PostgreSQL would write it for each change of the row.
const KeysSQL = "(pg_catalog.left(headers->>'ezq_unique'::text, 400)) WHERE " + IsKeyedSQL

// IsKeyedSQL tells which rows have a key. It stands before what looks at the key, in an index and in a statement:
// PostgreSQL asks it first.
const IsKeyedSQL = "pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string'"

// IndexName is the name of an index for a purpose. No queue has a table of such a name, which what PostgreSQL
// chooses can be. PostgreSQL cuts one that is too long.
func IndexName(purpose, table string, of ...string) string {
	words := append([]string{"ezq", purpose, strings.Trim(strings.TrimPrefix(table, `"pgmq".`), `"`)}, of...)
	return pgx.Identifier{strings.Join(words, "_")}.Sanitize()
}

// Index is an index of expressions on a table in use.
type Index struct {
	Name, Table, Expressions string
	Partitioned              bool // the table is
	Taken                    bool // another index has the name, or one whose build was interrupted
}

// Remedy is what to run for the index. PostgreSQL builds none concurrently on a partitioned table: publishers and
// consumers wait for it.
func (i Index) Remedy() string {
	concurrently, when := "CONCURRENTLY ", ""
	if i.Partitioned {
		concurrently, when = "", ", when no program writes to it"
	}
	create := "CREATE INDEX " + concurrently + i.Name + " ON " + i.Table + " " + i.Expressions + when
	if i.Taken {
		return "DROP INDEX " + concurrently + QualifiedIndex(i.Name) + "; " + create
	}
	return create
}

// QualifiedIndex is a name that [IndexName] returns, with the schema of the queues.
func QualifiedIndex(name string) string { return `"pgmq".` + name }
