// Package search finds, cancels and moves messages that a topic has stored, by what they say.
package search

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/internal/schema"
)

// table is a queue or an archive that is searched.
type table struct {
	name    string
	queue   string
	place   backend.Place
	letters bool   // it is the queue of the dead-letter topic, or its archive
	says    string // which of its messages are of the topic: those that say so, as codec.EscapeTopic has it; "" for all

	readable bool
	headers  bool
	leases   bool // it has last_read_at

	partitioned bool
	indexed     [5]bool // by the conditions, in their order
	taken       bool    // there is something that has the name of the index with which all of it can be searched
}

//go:embed sql/tables.sql
var tablesSQL string

// listTables returns the queues of a topic that exist, and with all set, those of its dead letters
// and their archives.
func listTables(ctx context.Context, pool *pgxpool.Pool, topic string, chosen choice, all bool) ([]table, error) {
	own, err := queuename.Of(topic)
	if err != nil {
		return nil, err
	}
	bound, err := bindings(ctx, pool, topic, own)
	if err != nil {
		return nil, err
	}
	tables := []table{{name: queuename.Table(own), queue: own, place: backend.InTopic}}
	groups := bound.Groups(topic)
	for _, group := range groups {
		tables = append(tables, table{name: queuename.Table(group), queue: group, place: backend.InGroup})
	}
	for _, group := range bound.Patterned {
		if !slices.Contains(groups, group) {
			tables = append(tables, table{name: queuename.Table(group), queue: group, place: backend.InGroup, says: codec.EscapeTopic(topic)})
		}
	}
	if all {
		if dead, err := queuename.Of(topic + backend.DeadLetterSuffix); err == nil { // a name can be too long
			tables = append(tables, table{name: queuename.Table(dead), queue: dead, place: backend.InDeadLetters, letters: true})
		}
		for _, t := range slices.Clone(tables) {
			tables = append(tables, table{name: queuename.Archive(t.queue), queue: t.queue, place: backend.InArchive, letters: t.letters, says: t.says})
		}
	}
	return describe(ctx, pool, tables, chosen)
}

// bindings returns what topic is bound to.
func bindings(ctx context.Context, pool *pgxpool.Pool, topic, own string) (catalog.TopicBindings, error) {
	layout, err := catalog.Probe(ctx, pool, own)
	if err != nil || !layout.Groups {
		return catalog.TopicBindings{}, err
	}
	return catalog.Bindings(ctx, pool, topic)
}

// describe returns those of tables that exist, with what there is to know of them.
func describe(ctx context.Context, pool *pgxpool.Pool, tables []table, chosen choice) (there []table, err error) {
	names, indexes := make([]string, len(tables)), make([]string, len(tables))
	for i, t := range tables {
		index, _ := chosen.index(t.name)
		names[i], indexes[i] = t.name, catalog.QualifiedIndex(index.Name)
	}
	rows, err := pool.Query(ctx, sqlfile.Text(tablesSQL), pgx.QueryExecModeCacheDescribe, names, schema.WrittenMember("headers", chosen.Header), indexes, chosen.field.written())
	if err != nil {
		return nil, err
	}
	var n int
	var t table
	_, err = pgx.ForEachRow(rows, []any{&n, &t.readable, &t.headers, &t.leases, &t.partitioned, &t.indexed[0], &t.indexed[1], &t.indexed[2], &t.indexed[3], &t.indexed[4], &t.taken}, func() error {
		t.name, t.queue, t.place, t.letters, t.says = tables[n].name, tables[n].queue, tables[n].place, tables[n].letters, tables[n].says
		there = append(there, t)
		return nil
	})
	return there, err
}

// check returns why the table cannot be searched, for which these privileges are needed, or nil.
func (t table) check(privileges string) error {
	switch {
	case !t.readable:
		return t.denied(privileges, fmt.Errorf("the role may not read %s, which was left out", t.name))
	case !t.headers:
		return &fault.Error{
			Kind: fault.ErrTooOld, Cause: fmt.Errorf("%s has no headers, and was left out", t.name),
			Remedy: fmt.Sprintf("let its owner run ALTER TABLE %s ADD COLUMN headers jsonb", t.name),
		}
	}
	return nil
}

func (t table) denied(privileges string, cause error) error {
	return &fault.Error{
		Kind: fault.ErrPermission, Cause: cause, Remedy: fmt.Sprintf("let its owner run GRANT %s ON %s TO the role", privileges, t.name),
	}
}

// known says in SQL that a message of m was leased before.
func (t table) known() string {
	if t.place == backend.InArchive || t.letters || !t.leases {
		return "true"
	}
	return "(read_ct > 0 or last_read_at is not null)"
}
