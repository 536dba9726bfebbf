// Package schema is what ezq adds to PGMQ's schema: its tables, its indexes, the roles that are trusted there, and the
// grants of roles. The backend, the command and the documentation take them from here.
package schema

import (
	_ "embed"
	"fmt"
	"strings"
)

// Schedules is the queue that has the state of the schedules.
const Schedules = "ezq_schedules"

// The tables of ezq's own, beside those of the queues.
const (
	IDsTable    = "pgmq.ezq_ids"
	PausesTable = "pgmq.ezq_pauses"
)

// KeysTableSQL creates a table of keys, each with the time until which it counts, and an index that finds those whose
// time is over.
func KeysTableSQL(name string) string {
	return "create table " + name + " (key bytea primary key, until timestamptz not null); create index on " + name + " (until)"
}

// PausesTableSQL creates the table of pauses.
func PausesTableSQL() string {
	return "create table " + PausesTable + " (queue text primary key, topic text not null, consumer_group text not null," +
		" paused_by text not null, reason text not null, since timestamptz not null, until timestamptz)"
}

//go:embed sql/trusted_roles.sql
var trustedRolesFile string

// TrustedRolesSQL is the beginning of a statement, with comments, that has the roles which the current one trusts in
// "trusted_roles", by their oid.
func TrustedRolesSQL() string { return trustedRolesFile }

// Formats of the comment on a table that says whose messages a queue holds, where its name does not.
const (
	TopicLabel = "ezq: topic %q"
	GroupLabel = TopicLabel + ", group %q"
)

// Label returns the comment on the table of a topic's own queue, or that of a group.
func Label(topic, group string) string {
	if group == "" {
		return fmt.Sprintf(TopicLabel, topic)
	}
	return fmt.Sprintf(GroupLabel, topic, group)
}

// Literal returns text as a constant of SQL, whatever standard_conforming_strings is.
func Literal(text string) string {
	literal := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return "E" + strings.ReplaceAll(literal, `\`, `\\`)
	}
	return literal
}

// Quoted returns a name as SQL, in quotes. A name has no NUL.
func Quoted(name string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(name, "\x00", ""), `"`, `""`) + `"`
}

// Table returns the name of a queue's table as SQL.
func Table(queue string) string { return `"pgmq".` + Quoted("q_"+queue) }

// Archive returns the name of a queue's archive as SQL.
func Archive(queue string) string { return `"pgmq".` + Quoted("a_"+queue) }
