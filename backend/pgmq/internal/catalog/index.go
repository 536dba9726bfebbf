package catalog

// KeysSQL is what an index of unique keys is on, and which rows it has. A key has at most 303 characters; more, which
// only another program can have written, would not fit an index.
const KeysSQL = "(left(headers->>'ezq_unique', 400)) WHERE headers ? 'ezq_unique'"

// IndexRemedy is what to run for an index of expressions on a table in use. PostgreSQL builds none concurrently on a
// partitioned table: publishers and consumers wait for it.
func IndexRemedy(table, expressions string, partitioned bool) string {
	if partitioned {
		return "CREATE INDEX ON " + table + " " + expressions + ", when no program writes to it"
	}
	return "CREATE INDEX CONCURRENTLY ON " + table + " " + expressions
}
