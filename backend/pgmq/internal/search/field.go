package search

import (
	"fmt"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/internal/schema"
)

// BodyField is a field of a payload in SQL. That of the zero value is none.
type BodyField struct {
	Path []string
	json string
}

// NewBodyField returns the field of a selection.
func NewBodyField(path string, equals any) (BodyField, error) {
	said, err := backend.NewBodyField(path, equals)
	if err != nil || said == nil {
		return BodyField{}, err
	}
	return BodyField{said.Path, said.JSON}, nil
}

func (f BodyField) isSet() bool { return len(f.Path) > 0 }

// Value returns the parameter that the field is equal to, as the text of a jsonb.
func (f BodyField) Value() *string { return sqlfile.OrNull(f.json) }

// SQL returns the field of the column message, of which a parameter has the Path. So there is one statement for all
// fields that are equally deep.
func (f BodyField) SQL(parameter int) string {
	var sql strings.Builder
	sql.WriteString("message")
	for i := range f.Path {
		fmt.Fprintf(&sql, "->($%d::text[])[%d]", parameter, i+1)
	}
	return sql.String()
}

// written returns the field as PostgreSQL writes an index of it, or "".
func (f BodyField) written() string {
	if !f.isSet() {
		return ""
	}
	return schema.WrittenMember("message", f.Path...)
}
