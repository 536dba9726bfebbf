// Package pauses keeps the pauses of topics in a table, and tells subscriptions of them.
package pauses

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
	"github.com/ezq-go/ezq/internal/schema"
)

// tableName is that of the table, in PGMQ's schema, where those that create queues may create it.
const tableName = schema.PausesTable

// What roles may do with the table: those that pause, those that resume, and those that only look.
const (
	pauseRights    = "SELECT, INSERT, UPDATE"
	resumeRights   = "SELECT, DELETE"
	consumerRights = "SELECT"
)

// ownTable is the table for a role with these privileges.
func ownTable(privileges string) catalog.OwnTable {
	return catalog.OwnTable{
		Name:    tableName,
		Create:  schema.PausesTableSQL(),
		Purpose: "keeps pauses",
		Grants:  "GRANT " + privileges + " ON " + tableName + " TO the role",
	}
}

// maxListed is how many pauses one call lists.
const maxListed = 10_000

// maxTopic is how many bytes the topic of a queue may have, and is more than a group's name may have.
const maxTopic = 1024 + len(backend.DeadLetterSuffix)

var (
	//go:embed sql/pause.sql
	pauseFile string
	//go:embed sql/resume.sql
	resumeFile string
	//go:embed sql/held.sql
	heldFile string
)

// statement returns that in a file, with names in the place of what is in braces.
func statement(file string) string {
	topic, group := shown("topic", maxTopic), shown("consumer_group", maxTopic)
	columns := strings.Join([]string{
		shown("queue", maxTopic), topic, group, shown("paused_by", backend.MaxPauseAuthor), shown("reason", backend.MaxPauseReason),
		"case when pg_catalog.isfinite(since) then least(since, '9999-01-01') else 'epoch' end",
		"case when pg_catalog.isfinite(until) then least(until, '9999-01-01') end",
	}, ", ")
	return strings.NewReplacer("{table}", tableName, "{channel}", wakeup.Channel, "{name}", wakeup.Pauses, "{columns}", columns, "{topic}", topic, "{group}", group).
		Replace(sqlfile.Text(file))
}

// shown is the first characters of a column, or if it has megabytes, a text that says so. What is stored in 8 KiB takes no
// time to read.
func shown(column string, most int) string {
	return fmt.Sprintf("case when pg_catalog.pg_column_size(%[1]s) <= 8192 then pg_catalog.left(%[1]s, %[2]d) else '(too large to show)' end", column, most)
}

// query returns the pauses that the statement in a file returns.
func query(ctx context.Context, db transact.Queryer, file string, args ...any) ([]row, error) {
	rows, err := db.Query(ctx, statement(file), append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[row])
}

// row is a pause that holds.
type row struct {
	Queue, Topic, Group, By, Reason string
	Since                           time.Time
	Until                           *time.Time // nil: until it is resumed
}

// of returns the pause. If it is that of the queue of known consumers, it is theirs, whatever topic it names.
func (r row) of(known map[string]Consumers) backend.Paused {
	if c, ok := known[r.Queue]; ok {
		r.Topic, r.Group = c.Topic, c.Group
	}
	return r.paused()
}

func (r row) paused() backend.Paused {
	paused := backend.Paused{Topic: r.Topic, Group: r.Group, By: r.By, Reason: r.Reason, Since: r.Since}
	if r.Until != nil {
		paused.Until = *r.Until
	}
	return paused
}

// Table is the pauses of a database, for those that pause and resume.
type Table struct {
	Pool     *pgxpool.Pool
	NoCreate bool // it is there, or else nothing can be paused
}

// Consumers are those that one pause is for: all of a topic, whose own queue it is, or those of a group.
type Consumers struct{ Topic, Group, Queue string }

// Pause pauses consumers, unless a longer pause holds, and returns what holds then.
func (t Table) Pause(ctx context.Context, consumers Consumers, p backend.Pause) (backend.Paused, error) {
	var seconds *float64
	if p.For > 0 {
		s := p.For.Seconds()
		seconds = &s
	}
	rows, err := t.change(ctx, pauseFile, consumers.Queue, consumers.Topic, consumers.Group, p.By, p.Reason, seconds)
	if fault.IsCode(err, "42P01") && !t.NoCreate { // undefined_table
		if err = ownTable(pauseRights).Ensure(ctx, t.Pool); err == nil {
			rows, err = t.change(ctx, pauseFile, consumers.Queue, consumers.Topic, consumers.Group, p.By, p.Reason, seconds)
		}
	}
	if err != nil {
		return backend.Paused{}, ownTable(pauseRights).Explain(err)
	}
	return rows[0].paused(), nil
}

// Resume ends a pause, and reports whether there was one.
func (t Table) Resume(ctx context.Context, queue string) (resumed bool, err error) {
	if err := t.requireTrusted(ctx); err != nil {
		return false, err
	}
	resumed, err = transact.Value[bool](ctx, t.Pool, statement(resumeFile), queue)
	if fault.IsCode(err, "42P01") {
		return false, nil
	}
	return resumed, ownTable(resumeRights).Explain(fault.Sent(err))
}

// ListAll returns all pauses that hold now. If there are more than it lists, it returns a [*backend.TruncatedError]
// too.
func (t Table) ListAll(ctx context.Context) ([]backend.Paused, error) {
	return t.list(ctx, "", nil)
}

// List is ListAll for the pauses of a topic: those that name it, and those of the queues of consumers, whatever
// these name.
func (t Table) List(ctx context.Context, topic string, consumers ...Consumers) ([]backend.Paused, error) {
	return t.list(ctx, topic, consumers)
}

func (t Table) list(ctx context.Context, topic string, consumers []Consumers) ([]backend.Paused, error) {
	var of *string
	if topic != "" {
		of = &topic
	}
	byQueue := map[string]Consumers{}
	for _, c := range consumers {
		byQueue[c.Queue] = c
	}
	rows, err := t.query(ctx, heldFile, queuesOf(byQueue), of, maxListed+1)
	if fault.IsCode(err, "42P01") {
		return nil, nil
	}
	if err != nil {
		return nil, ownTable(consumerRights).Explain(err)
	}
	if len(rows) > maxListed {
		rows, err = rows[:maxListed], &backend.TruncatedError{
			Tables: []string{tableName}, Reason: fmt.Sprintf("only the first %d pauses were looked at", maxListed), Remedy: "list those of one topic, or delete those that are no longer wanted",
		}
	}
	all := make([]backend.Paused, len(rows))
	for i, r := range rows {
		all[i] = r.of(byQueue)
	}
	return all, err
}

// queuesOf returns the names of queues, or nil if there are none.
func queuesOf(byQueue map[string]Consumers) []string {
	return slices.Collect(maps.Keys(byQueue))
}

// requireTrusted returns an error if the table could run the code of an untrusted role.
func (t Table) requireTrusted(ctx context.Context) error {
	return catalog.RequireTrusted(ctx, t.Pool, []string{tableName}, "")
}

// change is query for a statement that changes the table.
func (t Table) change(ctx context.Context, file string, args ...any) ([]row, error) {
	if err := t.requireTrusted(ctx); err != nil {
		return nil, err
	}
	rows, err := query(ctx, t.Pool, file, args...)
	return rows, fault.Sent(err)
}

// query is the function query on a table that is trusted.
func (t Table) query(ctx context.Context, file string, args ...any) ([]row, error) {
	if err := t.requireTrusted(ctx); err != nil {
		return nil, err
	}
	return query(ctx, t.Pool, file, args...)
}
