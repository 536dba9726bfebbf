package schema

import "strings"

// KeysSQL is what an index of unique keys is on, and which rows it has. A key has at most 303 characters; more, which
// only another program can have written, would not fit an index. What is no string is not in the index: its text could
// have a gigabyte, and PostgreSQL would write it for each change of the row.
const KeysSQL = "(pg_catalog.left(headers->>'ezq_unique'::text, 400)) WHERE " + IsKeyedSQL

// IsKeyedSQL tells which rows have a key. It stands before what looks at the key, in an index and in a statement:
// PostgreSQL asks it first.
const IsKeyedSQL = "pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string'"

// Index is an index by which messages are found, for any queue or archive.
type Index struct {
	Purpose     string   // "key", "id", "event", "header" or "field"
	Of          []string // the header, or the path of the field
	Expressions string   // as SQL
}

// KeyIndex finds messages by their unique key.
func KeyIndex() Index { return Index{Purpose: "key", Expressions: KeysSQL} }

// IDIndex finds messages by their ID.
func IDIndex() Index {
	return Index{Purpose: "id", Expressions: "USING hash ((headers->'ezq_uuid'::text))"}
}

// EventIndex finds messages by the name of their event.
func EventIndex() Index {
	return Index{Purpose: "event", Expressions: "USING hash ((coalesce(message->'_type'::text, headers->'name'::text)))"}
}

// HeaderIndex finds messages by a header.
func HeaderIndex(name string) Index {
	return Index{Purpose: "header", Of: []string{name}, Expressions: "USING hash ((headers->" + Literal(name) + "::text))"}
}

// FieldIndex finds messages by a field of their body.
func FieldIndex(path ...string) Index {
	return Index{Purpose: "field", Of: path, Expressions: "USING hash ((" + FieldSQL(path) + "))"}
}

// FieldSQL is a field of the body of a message.
func FieldSQL(path []string) string {
	var sql strings.Builder
	sql.WriteString("message")
	for _, name := range path {
		sql.WriteString("->" + Literal(name) + "::text")
	}
	return sql.String()
}

// Name returns the name of the index on a table, which is given as [Table] returns it. No queue has a table of such a
// name, which what PostgreSQL chooses can be. PostgreSQL cuts one that is too long.
func (i Index) Name(table string) string {
	words := append([]string{"ezq", i.Purpose, strings.Trim(strings.TrimPrefix(table, `"pgmq".`), `"`)}, i.Of...)
	return Quoted(strings.Join(words, "_"))
}
