package search

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/internal/schema"
)

// choice is a selection in SQL.
type choice struct {
	backend.Selection
	topic string
	own   string // the topic's own queue, whose name stands before its keys
	field BodyField
	small bool // only rows that are read fast are looked at
}

func newChoice(topic string, s backend.Selection) (choice, error) {
	if s.UniqueKey != "" && backend.IsPattern(topic) {
		return choice{}, &fault.Error{
			Kind: fault.ErrInvalidConfig, Cause: errors.New("it is a pattern, and unique keys are those of single topics"),
			Remedy: "ask for the topic that the message was published to, which includes the groups that take it by a pattern",
		}
	}
	own, err := queuename.Of(topic)
	if err != nil {
		return choice{}, err
	}
	field, err := NewBodyField(s.Field, s.Equals)
	return choice{Selection: s, topic: topic, own: own, field: field}, err
}

// readsMessages reports whether it matters what the payload of a message says.
func (c choice) readsMessages() bool { return c.Event != "" || c.field.isSet() }

//go:embed sql/matches.sql
var matchesSQL string

// statement puts names in the place of what is in braces.
func (c choice) statement(file string, t table, names ...string) string {
	which, small, order := c.which(t)
	says := "true"
	if t.says != "" {
		says = "headers->'" + codec.TopicKey + "'::text = pg_catalog.to_jsonb(" + sqlfile.Literal(t.says) + "::text)"
	}
	with := strings.NewReplacer("{table}", t.name, "{queue}", sqlfile.Literal(t.queue), "{known}", t.known(), "{which}", which, "{small}", small, "{order}", order,
		"{says}", says, "{field}", c.field.SQL(7))
	all := append([]string{"{matches}", sqlfile.Text(matchesSQL)}, names...)
	return with.Replace(strings.NewReplacer(all...).Replace(sqlfile.Text(file)))
}

// arguments returns the parameters of matches.sql, and others.
func (c choice) arguments(t table, others ...any) []any {
	var key string
	if c.UniqueKey != "" {
		key = c.own + "/" + c.UniqueKey
	}
	var value *string
	if c.Header != "" {
		value = &c.Value
	}
	return append([]any{
		sqlfile.OrNull(c.ID), sqlfile.OrNull(key), sqlfile.OrNull(c.Event), sqlfile.OrNull(c.Header), value, codec.DefaultIDOf(c.ID, t.queue),
		c.field.Path, c.field.Value(),
	}, others...)
}

// conditions returns what an index can find for each condition of matches.sql that is set, in SQL.
func (c choice) conditions() [5]string {
	var all [5]string
	if c.ID != "" {
		all[0] = "headers->'ezq_uuid'::text = pg_catalog.to_jsonb($1::text)"
	}
	if c.UniqueKey != "" {
		all[1] = schema.IsKeyedSQL + " and pg_catalog.left(headers->>'ezq_unique'::text, 400) = $2::text"
	}
	if c.Event != "" {
		all[2] = "coalesce(message->'_type'::text, headers->'name'::text) = pg_catalog.to_jsonb($3::text)"
	}
	if c.Header != "" {
		all[3] = "headers->" + sqlfile.Literal(c.Header) + "::text = pg_catalog.to_jsonb($5::text)"
	}
	if c.field.isSet() {
		all[4] = schema.FieldSQL(c.field.Path) + " = $8::jsonb"
	}
	return all
}

// which returns what is looked at in t, which rows of that are read, and by which column the newest come first.
//
// What an index finds is sorted too: any publisher may store any number of rows that it finds. PostgreSQL must not read all
// of t in that order instead.
//
// Any publisher may store rows that take long to read, as 250 MB in 3 MB. Consumers take no such headers. Rows of which only a
// flood takes long are left out if there is one.
func (c choice) which(t table) (which, small, order string) {
	small = statement.HeadersAreSmall()
	if c.small {
		small = codec.IsReadFast("headers")
		if c.readsMessages() {
			small += " and " + codec.IsReadFast("message")
		}
	}
	order = "msg_id"
	if t.place == backend.InArchive {
		order = "archived_at"
	}
	condition, ok := c.indexed(t)
	if !ok {
		return t.name + " m order by " + order + " desc", small, order
	}
	if !c.small {
		small = "true" // they are few
	}
	return fmt.Sprintf("(select * from %s where %s offset 0) as m order by %s desc, msg_id desc", t.name, condition, order), small, order
}

// indexed returns the condition for which t has an index, with which all of it that is chosen can be found.
func (c choice) indexed(t table) (condition string, ok bool) {
	conditions := c.conditions()
	for _, i := range [...]int{1, 0, 4, 3, 2} { // the most selective first
		if conditions[i] != "" && t.indexed[i] {
			return conditions[i], true
		}
	}
	return "", false
}

// index returns an index with which all of a table can be searched, and for which of the conditions of matches.sql it is.
func (c choice) index(table string) (index catalog.Index, condition int) {
	var by schema.Index
	switch {
	case c.UniqueKey != "":
		by, condition = schema.KeyIndex(), 1
	case c.ID != "":
		by, condition = schema.IDIndex(), 0
	case c.field.isSet():
		by, condition = schema.FieldIndex(c.field.Path...), 4
	case c.Header != "":
		by, condition = schema.HeaderIndex(c.Header), 3
	default:
		by, condition = schema.EventIndex(), 2
	}
	return catalog.Index{Table: table, Name: by.Name(table), Expressions: by.Expressions}, condition
}

// remedy returns the SQL with which all of t can be searched.
func (c choice) remedy(t table) string {
	index, condition := c.index(t.name)
	index.Partitioned, index.Taken = t.partitioned, t.taken && !t.indexed[condition]
	return index.Remedy()
}
