// Package hazard looks for what endangers the queues of a database: a file of SQL for each hazard, and what to do.
//
// Each statement runs in a read-only transaction of its own that is short, and in which no name leads to anything but
// PostgreSQL's own functions and tables. So they name these without a schema. A row of a statement is what it has found: the
// object, what was seen of it, and SQL that is a remedy or helps with it, or ”. A statement about one queue leaves the object out.
//
// {queues} is queues.sql, {table name} the table of a queue as a string, and {threshold} how much of it is too much.
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
	// Note is something that can be meant, and that one who wonders should know.
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

	perQueue bool   // its statement is about one queue
	needs    string // a table without which it cannot be
}

// Found is a sign of a hazard.
type Found struct{ Object, Seen, SQL string }

// At most so many signs of a hazard are told; what is left out is counted up to a thousand.
const (
	mostTold    = 20
	mostCounted = 1000
)

// patience is how long single queues are looked for one by one, because the statement about several failed.
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

// run calls scan for the rows of a statement.
func run(ctx context.Context, conn *pgxpool.Conn, sql string, scan func(pgx.CollectableRow) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{BeginQuery: beginSQL}, func(tx pgx.Tx) error {
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
	})
}

// Queues returns the queues whose events can be looked at, without running code of their owners, and the others.
func Queues(ctx context.Context, conn *pgxpool.Conn) (readable, others []string, err error) {
	sql, err := statement("readable", "")
	if err != nil {
		return nil, nil, err
	}
	err = run(ctx, conn, sql, func(row pgx.CollectableRow) error {
		var queue string
		var ok bool
		if err := row.Scan(&queue, &ok); err != nil {
			return err
		}
		if ok {
			readable = append(readable, queue)
		} else {
			others = append(others, queue)
		}
		return nil
	})
	return readable, others, err
}

// Tables returns the tables of queues and archives, and those of ezq.
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

// Look returns the signs of h. Some may come with an error. queues are those that can be read.
func (h Hazard) Look(ctx context.Context, conn *pgxpool.Conn, queues []string) ([]Found, error) {
	sql, err := statement(h.ID, h.Threshold)
	if err != nil {
		return nil, err
	}
	var signs signs
	if !h.perQueue {
		err = run(ctx, conn, fmt.Sprintf("select * from (%s) as found(object, seen, sql) limit %d", sql, mostCounted+1), signs.add)
		if h.needs != "" && fault.IsCode(err, "42P01") {
			err = nil
		}
		return signs.told(), err
	}
	var errs []error
	end := time.Now().Add(patience)
	for some := range slices.Chunk(queues, 100) { // a statement about all of a thousand takes long to plan
		errs = append(errs, signs.lookAt(ctx, conn, sql, some, end))
	}
	return signs.told(), errors.Join(errs...)
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

// lookAt adds the signs of queues. One for which the statement fails, or takes long, hides none of another, as long as there is time.
func (s *signs) lookAt(ctx context.Context, conn *pgxpool.Conn, sql string, queues []string, end time.Time) error {
	var found signs
	err := run(ctx, conn, forEach(sql, queues), found.add)
	switch {
	case err == nil:
		for _, f := range found.all {
			s.keep(f)
		}
		s.more += found.more
		return nil
	case len(queues) == 1 || time.Now().After(end) || conn.Conn().IsClosed():
		return err
	}
	half := len(queues) / 2
	return errors.Join(s.lookAt(ctx, conn, sql, queues[:half], end), s.lookAt(ctx, conn, sql, queues[half:], end))
}

func (s *signs) add(row pgx.CollectableRow) error {
	found, err := pgx.RowToStructByPos[Found](row)
	if err == nil {
		s.keep(found)
	}
	return err
}

func (s *signs) keep(found Found) {
	if len(s.all) == mostTold {
		s.more++
	} else {
		s.all = append(s.all, found)
	}
}

func (s *signs) told() []Found {
	switch {
	case s.more > mostCounted-mostTold:
		return append(s.all, Found{Seen: fmt.Sprintf("and more than %d others", mostCounted-mostTold)})
	case s.more > 0:
		return append(s.all, Found{Seen: fmt.Sprintf("and %d others", s.more)})
	}
	return s.all
}
