package pgmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// queueLayout is what the catalog of PostgreSQL says about PGMQ and one queue. It is
// asked for what there is, never for a version: PGMQ that was installed as plain
// SQL has none, and a queue keeps the columns it was created with.
type queueLayout struct {
	Installed   bool     // the function that creates queues
	Headers     bool     // the functions of PGMQ 1.5 and later
	Columns     []string // with the names of their types in pg_catalog, which no setting changes; none if there is no such queue
	Table       bool     // not a view, say
	Partitioned bool
	OID         uint32 // of the table; another one if it was dropped and created anew
	Consume     bool   // the privileges that consuming needs
	Publish     bool   // the privilege that publishing needs
	Groups      bool   // the table of bindings of PGMQ 1.11 and later
	ReadOnly    bool
	Standby     bool
	Backend     uint32
	Pooled      bool     `db:"-"` // a pooler is in between
	Encoding    encoding `db:"-"` // of the database
}

// probeSQL asks pg_class for the oid as well, so that all of the answer is of one snapshot:
// to_regclass alone also finds a table that was created after that, without its columns.
const probeSQL = `
select to_regprocedure('pgmq.create(text)') is not null,
	to_regprocedure('pgmq.send(text,jsonb,jsonb,timestamptz)') is not null,
	array(select attname || ' ' || typname from pg_attribute
		join pg_type t on t.oid = atttypid and typnamespace = 'pg_catalog'::regnamespace
		where attrelid = to_regclass($1) and attnum > 0 and not attisdropped),
	coalesce((select relkind in ('r', 'p') from pg_class where oid = to_regclass($1)), false),
	coalesce((select relkind = 'p' from pg_class where oid = to_regclass($1)), false),
	coalesce((select oid from pg_class where oid = to_regclass($1)), 0),
	coalesce(has_table_privilege(to_regclass($1), 'select')
		and has_table_privilege(to_regclass($1), 'update')
		and has_table_privilege(to_regclass($1), 'delete'), false),
	coalesce(has_any_column_privilege(to_regclass($1), 'insert'), false),
	to_regclass('pgmq.topic_bindings') is not null,
	current_setting('transaction_read_only')::boolean,
	pg_is_in_recovery(),
	pg_backend_pid()`

func probe(ctx context.Context, db queryer, queue string) (queueLayout, error) {
	rows, err := db.Query(ctx, probeSQL, pgx.QueryExecModeCacheDescribe, tableName(queue))
	if err != nil {
		return queueLayout{}, err
	}
	conn := rows.Conn()
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[queueLayout])
	if err != nil {
		return queueLayout{}, err
	}
	if conn != nil {
		found.Pooled = isBehindPooler(conn, found.Backend)
		found.Encoding = encoding(conn.PgConn().ParameterStatus("server_encoding"))
		if err := requireUTF8(conn.PgConn()); err != nil {
			return found, err
		}
	}
	return found, found.check()
}

func (l queueLayout) check() error {
	if !l.Installed {
		return &Error{
			Kind: ErrNotInstalled, Cause: errors.New("this database has no function pgmq.create"),
			Remedy: "run CREATE EXTENSION pgmq in this database, or install PGMQ's SQL; docs: https://github.com/pgmq/pgmq",
		}
	}
	if l.exists() && !l.isQueue() {
		return &Error{
			Kind: ErrNotAQueue, Cause: fmt.Errorf("it has the columns %s", strings.Join(l.Columns, ", ")),
			Remedy: "move what it is out of the schema pgmq, or choose another topic",
		}
	}
	if !l.Headers || l.exists() && !l.has("headers jsonb") {
		return &Error{
			Kind: ErrTooOld, Cause: errors.New("its queues have no headers"),
			Remedy: "update PGMQ to 1.5 or later: ALTER EXTENSION pgmq UPDATE",
		}
	}
	return nil
}

func (l queueLayout) exists() bool { return l.OID != 0 }

func (l queueLayout) has(column string) bool { return slices.Contains(l.Columns, column) }

// isQueue reports whether the table has what queues of every version have.
func (l queueLayout) isQueue() bool {
	return l.Table && l.has("msg_id int8") && l.has("read_ct int4") && l.has("message jsonb") &&
		l.has("enqueued_at timestamptz") && l.has("vt timestamptz")
}

func (l queueLayout) readOnlyError() error {
	remedy := standbyRemedy
	if !l.Standby {
		remedy = readOnlyRemedy
	}
	return &Error{Cause: errors.New("the server is read-only, and consuming writes"), Remedy: remedy}
}

func consumeDenied(queue string) error {
	return &Error{
		Kind: ErrPermission, Cause: fmt.Errorf("the role may not consume from %s", tableName(queue)),
		Remedy: fmt.Sprintf("let its owner run GRANT SELECT, UPDATE, DELETE ON %s TO the role", tableName(queue)),
	}
}
