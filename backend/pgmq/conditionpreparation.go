package pgmq

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// idsTable remembers the IDs of messages that are stored once: of each the SHA-256 of it and of its topic,
// and the time until which it counts. It is in PGMQ's schema, where those that create queues may create it.
const idsTable = "pgmq.ezq_ids"

const createIDsSQL = "create table " + idsTable + " (key bytea primary key, until timestamptz not null);" +
	" create index on " + idsTable + " (until)"

// preparation is what conditions need in the database beside the queues: the table of IDs, and
// an index of keys for each queue.
type preparation struct {
	db      DBTX
	pool    *pgxpool.Pool // to create things with, where db is a transaction; nil if there is none
	create  bool          // create what is missing
	catalog *catalog
}

// ids makes sure that there is the table of IDs.
func (p preparation) ids(ctx context.Context) error {
	if p.catalog.knows(idsTable) {
		return nil
	}
	missing, err := p.find(ctx, missingTablesSQL, []string{idsTable})
	if err == nil && len(missing) > 0 {
		if !p.create {
			return &Error{Kind: ErrNotPrepared, Cause: fmt.Errorf("there is no table %s, which remembers IDs", idsTable), Remedy: "let an administrator run " + createIDsSQL}
		}
		err = p.build(ctx, createIDsSQL, missingTablesSQL, idsTable)
		if isCode(err, "42501") {
			err = &Error{Kind: ErrPermission, Cause: withoutSecrets(err), Remedy: "let an administrator run " + createIDsSQL + ", and " + grantIDs}
		}
	}
	if err != nil {
		return err
	}
	untrusted, err := untrustedTables(ctx, p.db, []string{idsTable}, "")
	for _, table := range untrusted {
		err = firstError(err, table.codeError())
	}
	if err == nil {
		p.catalog.remember(idsTable)
	}
	return err
}

const grantIDs = "GRANT SELECT, INSERT, UPDATE, DELETE ON " + idsTable + " TO the role"

const missingTablesSQL = "select name from unnest($1::text[]) as name where to_regclass(name) is null"

// keys makes sure that the keys of each queue have an index, whatever its name is.
func (p preparation) keys(ctx context.Context, queues []string) error {
	tables := make([]string, len(queues))
	for i, queue := range queues {
		tables[i] = tableName(queue)
	}
	missing, err := p.find(ctx, missingIndexesSQL, tables)
	if err != nil {
		return err
	}
	for _, table := range missing {
		if err := p.index(ctx, table); err != nil {
			return err
		}
	}
	return nil
}

const missingIndexesSQL = `
select name from unnest($1::text[]) as name
where not exists (select from pg_index where indrelid = to_regclass(name) and indisvalid
	and pg_get_expr(indexprs, indrelid) = '(headers ->> ''` + uniqueKey + `''::text)'
	and pg_get_expr(indpred, indrelid) = '(headers ? ''` + uniqueKey + `''::text)')`

// indexKeysSQL is what a table lacks. Only messages that have a key are in the index.
func indexKeysSQL(table string) string {
	return fmt.Sprintf("on %s ((headers->>'%s')) where headers ? '%s'", table, uniqueKey, uniqueKey)
}

// maxIndexed is how large a queue may be, in bytes, for its index to be built by a publish, which
// keeps all other publishers and consumers waiting for as long.
const maxIndexed = 64 << 20

func (p preparation) index(ctx context.Context, table string) error {
	create := "CREATE INDEX CONCURRENTLY " + indexKeysSQL(table)
	size, err := p.find(ctx, largeTablesSQL, []string{table})
	switch {
	case err != nil:
		return err
	case !p.create, len(size) > 0:
		return &Error{Kind: ErrNotPrepared, Cause: fmt.Errorf("%s has no index of keys", table), Remedy: "let its owner run " + create}
	}
	err = p.build(ctx, "select set_config('lock_timeout', '100ms', true); create index "+indexKeysSQL(table), missingIndexesSQL, table)
	switch {
	case isCode(err, "42501"): // insufficient_privilege
		return &Error{Kind: ErrNotPrepared, Cause: withoutSecrets(err), Remedy: "let its owner run " + create}
	case isCode(err, "55P03"): // lock_not_available
		return errBusy
	}
	return err
}

// errBusy says that an index cannot be made now: other transactions write to the queue, or the one that is
// published in does. The queue is small enough to do without for a while.
var errBusy = errors.New("pgmq: the queue is in use")

var largeTablesSQL = fmt.Sprintf("select name from unnest($1::text[]) as name where pg_relation_size(to_regclass(name)) > %d", maxIndexed)

// build runs statements that create something. Where another process creates the same, it is enough that
// it is there afterwards.
func (p preparation) build(ctx context.Context, statements, missingSQL, table string) error {
	db := p.db
	if p.pool != nil {
		conn, err := connect(ctx, p.pool.Config())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		db = conn
	}
	const attempts = 3
	var failed error
	for range attempts {
		if _, failed = db.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol); failed == nil {
			return nil
		}
		missing, err := p.find(ctx, missingSQL, []string{table})
		if err == nil && len(missing) == 0 {
			return nil
		}
		if !isCode(failed, "23505", "42P07", "40P01", "XX000") {
			return failed
		}
	}
	return failed
}

func (p preparation) find(ctx context.Context, sql string, tables []string) (found []string, err error) {
	rows, err := p.db.Query(ctx, sql, pgx.QueryExecModeCacheDescribe, tables)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// conditionDenied returns err with the privileges that conditions need, if that is what it is about.
func conditionDenied(err error, queues []string) error {
	if !isCode(err, "42501") {
		return err
	}
	grants := []string{grantIDs}
	if !strings.Contains(err.Error(), strings.TrimPrefix(idsTable, "pgmq.")) {
		grants = nil
		for _, queue := range queues {
			grants = append(grants, fmt.Sprintf("GRANT SELECT, INSERT (vt, message, headers), UPDATE (vt, message, headers) ON %s TO the role", tableName(queue)))
		}
	}
	return &Error{Kind: ErrPermission, Cause: withoutSecrets(err), Remedy: "let the owner run " + strings.Join(grants, "; ")}
}
