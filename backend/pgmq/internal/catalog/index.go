package catalog

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
