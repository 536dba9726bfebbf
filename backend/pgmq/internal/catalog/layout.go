package catalog

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/probe.sql
var probeSQL string

// Layout is what the catalog of PostgreSQL says about PGMQ and one queue. It is
// asked for what there is, never for a version: PGMQ that was installed as plain
// SQL has none, and a queue keeps the columns it was created with.
type Layout struct {
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
	Untrusted   string         // a table or function of PGMQ that another role may have made; "" if there is none
	Owner       string         // that role
	Pooled      bool           `db:"-"` // a pooler is in between
	Encoding    codec.Encoding `db:"-"` // of the database
}

// Probe returns what there is of PGMQ and of queue. It is an error if that cannot be used.
func Probe(ctx context.Context, db transact.Queryer, queue string) (Layout, error) {
	rows, err := db.Query(ctx, withTrustedRoles(probeSQL), pgx.QueryExecModeCacheDescribe, queuename.Table(queue))
	if err != nil {
		return Layout{}, err
	}
	conn := rows.Conn()
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Layout])
	if err != nil {
		return Layout{}, err
	}
	if conn != nil {
		found.Pooled = dial.IsBehindPooler(conn, found.Backend)
		found.Encoding = codec.Encoding(conn.PgConn().ParameterStatus("server_encoding"))
		if err := dial.RequireUTF8(conn.PgConn()); err != nil {
			return found, err
		}
	}
	return found, found.check()
}

func (l Layout) check() error {
	if !l.Installed {
		return &fault.Error{
			Kind: fault.ErrNotInstalled, Cause: errors.New("this database has no function pgmq.create"),
			Remedy: "run CREATE EXTENSION pgmq in this database, or install PGMQ's SQL; docs: https://github.com/pgmq/pgmq",
		}
	}
	if l.Untrusted != "" {
		return l.untrustedError()
	}
	if l.Exists() && !l.isQueue() {
		return &fault.Error{
			Kind: fault.ErrNotAQueue, Cause: fmt.Errorf("it has the columns %s", strings.Join(l.Columns, ", ")),
			Remedy: "move what it is out of the schema pgmq, or choose another topic",
		}
	}
	if !l.Headers || l.Exists() && !l.Has("headers jsonb") {
		return &fault.Error{
			Kind: fault.ErrTooOld, Cause: errors.New("its queues have no headers"),
			Remedy: "update PGMQ to 1.5 or later: ALTER EXTENSION pgmq UPDATE",
		}
	}
	return nil
}

// untrustedError is why a PGMQ is not used of which another role has made a part.
func (l Layout) untrustedError() error {
	kind, name, _ := strings.Cut(l.Untrusted, " ")
	return &fault.Error{
		Kind: fault.ErrPermission,
		Cause: fmt.Errorf("the %s, which should be PGMQ's own, belongs to the role %s, which this one has no reason to trust, or is no table",
			l.Untrusted, l.Owner),
		Remedy: fmt.Sprintf("see which role has made it, with SELECT pg_catalog.pg_describe_object(classid, objid, 0) FROM pg_depend WHERE refobjid = %s::%s::oid, and drop it;"+
			" only if an administrator has made it, and nothing depends on it that another role has made, run ALTER %s %s OWNER TO the owner of the schema pgmq (docs/postgres.md, Roles)",
			sqlfile.Literal(name), map[string]string{"table": "regclass", "function": "regprocedure"}[kind], strings.ToUpper(kind), name),
	}
}

// Exists reports whether there is anything in the place of the queue.
func (l Layout) Exists() bool { return l.OID != 0 }

// Has reports whether the table has a column, given as its name and its type, as in "vt timestamptz".
func (l Layout) Has(column string) bool { return slices.Contains(l.Columns, column) }

// isQueue reports whether the table has what queues of every version have.
func (l Layout) isQueue() bool {
	return l.Table && l.Has("msg_id int8") && l.Has("read_ct int4") && l.Has("message jsonb") &&
		l.Has("enqueued_at timestamptz") && l.Has("vt timestamptz")
}

// ReadOnlyError is why nothing can be consumed from a server that takes no writes.
func (l Layout) ReadOnlyError() error {
	remedy := fault.StandbyRemedy
	if !l.Standby {
		remedy = fault.ReadOnlyRemedy
	}
	return &fault.Error{Cause: errors.New("the server is read-only, and consuming writes"), Remedy: remedy}
}

// ConsumeDenied is why a role cannot consume that lacks a privilege on the queue.
func ConsumeDenied(queue string) error {
	return &fault.Error{
		Kind: fault.ErrPermission, Cause: fmt.Errorf("the role may not consume from %s", queuename.Table(queue)),
		Remedy: fmt.Sprintf("let its owner run GRANT SELECT, UPDATE, DELETE ON %s TO the role", queuename.Table(queue)),
	}
}
