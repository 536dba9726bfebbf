// Package hazard looks for what endangers the queues of a database: a file of SQL for each hazard, and what to do.
//
// Each statement runs in a read-only transaction of its own that is short, and in which no name leads to anything but
// PostgreSQL's own functions and tables. So they name these without a schema. A row of a statement is what it has found:
// the object, what was seen of it, and SQL that is a remedy or helps with it, which may be empty. A statement about one
// queue leaves the object out.
//
// In a statement, {queues} stands for queues.sql, {threshold} for how much is too much, and, in one about one queue,
// {queue} for its name, {table} for its table, and {table name} for that as a string.
package hazard

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
)

// Severity is how urgent a finding is.
type Severity int

const (
	// Note is something that may be intended, and that explains what may surprise.
	Note Severity = iota + 1

	// Warning is something that costs time or space, or will.
	Warning

	// Failure is something by which events are stopped or lost, or will be.
	Failure
)

// Hazard is something that can be wrong.
type Hazard struct {
	ID       string
	Severity Severity
	Remedy   string

	// Threshold is how much of it is too much, in SQL.
	Threshold string

	// Needs is a table besides those of queues that it reads, and without which it cannot be. Others may have made that.
	Needs string

	perQueue bool // its statement is about one queue
}

// Found is a sign of a hazard. One without an Object counts those that are left out.
type Found struct{ Object, Seen, SQL string }

// Of a hazard, Look returns so many signs, and counts no more than these in all.
const (
	mostReturned = 20
	mostCounted  = 1000
)

// patience is how long queues are looked at in smaller and smaller parts, because the statement about all of them failed.
const patience = 15 * time.Second

// beginSQL begins the transaction of a statement.
const beginSQL = "begin isolation level read committed read only; set local search_path = pg_catalog, pg_temp; " +
	"set local statement_timeout = '5s'; set local lock_timeout = '500ms'; set local jit = off"

//go:embed sql/*.sql
var files embed.FS

func statement(file, threshold string) (string, error) {
	text, err := files.ReadFile("sql/" + file + ".sql")
	if err != nil {
		return "", fmt.Errorf("hazard: %w", err)
	}
	queues, err := files.ReadFile("sql/queues.sql")
	if err != nil {
		return "", fmt.Errorf("hazard: %w", err)
	}
	return strings.NewReplacer("{queues}", sqlfile.Text(string(queues)), "{threshold}", threshold).Replace(sqlfile.Text(string(text))), nil
}

func begin(ctx context.Context, conn *pgxpool.Conn, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{BeginQuery: beginSQL}, do)
}

// run calls scan for the rows of a statement.
func run(ctx context.Context, conn *pgxpool.Conn, sql string, scan func(pgx.CollectableRow) error) error {
	return begin(ctx, conn, func(tx pgx.Tx) error { return query(ctx, tx, sql, scan) })
}

func query(ctx context.Context, tx pgx.Tx, sql string, scan func(pgx.CollectableRow) error) error {
	rows, err := tx.Query(ctx, sql, pgx.QueryExecModeCacheDescribe)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Queues returns the queues whose events can be looked at, and the others. mayRead has the tables that run no code of their owners.
func Queues(ctx context.Context, conn *pgxpool.Conn, mayRead map[string]bool) (readable, others []string, err error) {
	sql, err := statement("readable", "")
	if err != nil {
		return nil, nil, err
	}
	err = run(ctx, conn, sql, func(row pgx.CollectableRow) error {
		var queue, table string
		var ok bool
		if err := row.Scan(&queue, &table, &ok); err != nil {
			return err
		}
		if ok && mayRead[table] {
			readable = append(readable, queue)
		} else {
			others = append(others, queue)
		}
		return nil
	})
	return readable, others, err
}

// Tables returns the tables of queues and archives, and those of ezq. Their names are quoted where they have to be.
func Tables(ctx context.Context, conn *pgxpool.Conn) (tables []string, err error) {
	sql, err := statement("tables", "")
	if err != nil {
		return nil, err
	}
	err = run(ctx, conn, sql, func(row pgx.CollectableRow) error {
		table, err := pgx.RowTo[string](row)
		tables = append(tables, table)
		return err
	})
	return tables, err
}

// Look returns the signs of h, at most 20 and one that counts the others. Some may come with an error. queues are those
// that can be read.
func (h Hazard) Look(ctx context.Context, conn *pgxpool.Conn, queues []string) ([]Found, error) {
	sql, err := statement(h.ID, h.Threshold)
	if err != nil {
		return nil, err
	}
	var signs signs
	if !h.perQueue {
		err = run(ctx, conn, fmt.Sprintf("select * from (%s) as found(object, seen, sql) limit %d", sql, mostCounted+1), signs.add)
		if h.Needs != "" && fault.IsCode(err, "42P01") {
			err = nil
		}
		return signs.found(), err
	}
	_, err = Split(ctx, conn, queues, func(tx pgx.Tx, some []string) error {
		var found []Found
		err := query(ctx, tx, forEach(sql, some), func(row pgx.CollectableRow) error {
			f, err := pgx.RowToStructByPos[Found](row)
			found = append(found, f)
			return err
		})
		if err == nil { // otherwise it is looked for again
			for _, f := range found {
				signs.keep(f)
			}
		}
		return err
	})
	return signs.found(), err
}

// Split calls do for some of all at a time, in a transaction as that of a hazard. If that fails, it does so for fewer, as long as
// there is time: one that is locked, or slow, hides no other. It returns those for which it fails.
func Split(ctx context.Context, conn *pgxpool.Conn, all []string, do func(tx pgx.Tx, some []string) error) (failed []string, err error) {
	end := time.Now().Add(patience)
	var try func(some []string)
	try = func(some []string) {
		fails := begin(ctx, conn, func(tx pgx.Tx) error { return do(tx, some) })
		switch {
		case fails == nil:
		case len(some) == 1 || time.Now().After(end) || ctx.Err() != nil || conn.Conn().IsClosed():
			failed, err = append(failed, some...), errors.Join(err, fails)
		default:
			try(some[:len(some)/2])
			try(some[len(some)/2:])
		}
	}
	for some := range slices.Chunk(all, 100) { // a statement about all of a thousand takes long to plan
		try(some)
	}
	return failed, err
}

// forEach returns a statement about queues, from one about {table} and {queue}.
func forEach(sql string, queues []string) string {
	all := make([]string, len(queues))
	for i, queue := range queues {
		table := queuename.Table(queue)
		one := strings.NewReplacer("{table name}", sqlfile.Literal(table), "{table}", table, "{queue}", sqlfile.Literal(queue)).Replace(sql)
		all[i] = fmt.Sprintf("(select %s::text as object, found.* from (%s) as found(seen, sql))", sqlfile.Literal(queue), one)
	}
	return strings.Join(all, " union all ")
}

// signs are those of one hazard.
type signs struct {
	all  []Found
	more int
}

func (s *signs) add(row pgx.CollectableRow) error {
	found, err := pgx.RowToStructByPos[Found](row)
	if err == nil {
		s.keep(found)
	}
	return err
}

func (s *signs) keep(found Found) {
	if len(s.all) == mostReturned {
		s.more++
	} else {
		s.all = append(s.all, found)
	}
}

func (s *signs) found() []Found {
	switch {
	case s.more > mostCounted-mostReturned:
		return append(s.all, Found{Seen: fmt.Sprintf("and more than %d others", mostCounted-mostReturned)})
	case s.more > 0:
		return append(s.all, Found{Seen: fmt.Sprintf("and %d others", s.more)})
	}
	return s.all
}
