package schema

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

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

// Written returns what the index is on, and which rows it has, as PostgreSQL writes both: so it is known whatever its
// name is.
func (i Index) Written() (expression, predicate string) {
	switch i.Purpose {
	case "key":
		return `"left"((headers ->> 'ezq_unique'::text), 400)`, "(jsonb_typeof((headers -> 'ezq_unique'::text)) = 'string'::text)"
	case "id":
		return WrittenMember("headers", "ezq_uuid"), ""
	case "event":
		return "COALESCE(" + WrittenMember("message", "_type") + ", " + WrittenMember("headers", "name") + ")", ""
	case "header":
		return WrittenMember("headers", i.Of...), ""
	}
	return WrittenMember("message", i.Of...), ""
}

// WrittenMember returns a member of a column as PostgreSQL writes an index of it: with no E before a name, and one \ for
// each, as standard_conforming_strings, which PGMQ requires, has them.
func WrittenMember(column string, path ...string) string {
	sql := column
	for _, name := range path {
		sql = "(" + sql + " -> '" + strings.ReplaceAll(name, "'", "''") + "'::text)"
	}
	return sql
}

// maxName is how many bytes a name may have: PostgreSQL cuts longer ones, which can make two of them one.
const maxName = 63

// Name returns the name of the index on a table, which is given as [Table] returns it. No queue has a table of such a
// name, which what PostgreSQL chooses can be, and no other index has it: a name that is too long, or could be that of
// another index, ends in a hash of what the index is.
func (i Index) Name(table string) string {
	table = unquoted(strings.TrimPrefix(table, `"pgmq".`))
	name := strings.Join(append([]string{"ezq", i.Purpose, table}, i.Of...), "_")
	if len(name) <= maxName && !i.isAmbiguous(table) {
		return Quoted(name)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", append([]string{i.Purpose, table}, i.Of...)))
	hash := fmt.Sprintf("_h%x", sum[:10])
	name = strings.ReplaceAll(name, "\x00", "")
	return Quoted(strings.ToValidUTF8(name[:min(len(name), maxName-len(hash))], "") + hash)
}

// isHash reports whether a word looks like the hash of a name.
func isHash(word string) bool {
	return len(word) == 21 && word[0] == 'h' && strings.Trim(word[1:], "0123456789abcdef") == ""
}

// isAmbiguous reports whether the words of the name, with underscores between them, can be those of another index, since
// they have some themselves. The last word alone is that of a header, so the name of its queue may have some.
func (i Index) isAmbiguous(table string) bool {
	for _, word := range i.Of {
		if strings.ContainsAny(word, "_\x00") || isHash(word) {
			return true
		}
	}
	return i.Purpose == "field" && strings.Count(table, "_") > 1 // q_ or a_, and the name of the queue
}

// unquoted returns the name that [Quoted] has quoted.
func unquoted(name string) string {
	return strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(name, `"`), `"`), `""`, `"`)
}
