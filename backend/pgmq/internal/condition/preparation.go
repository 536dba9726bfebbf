package condition

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/schema"
)

// idsTable remembers the IDs of messages that are stored once: of each the SHA-256 of it and of its topic,
// and the time until which it counts. It is in PGMQ's schema, where those that create queues may create it.
const (
	idsTable = schema.IDsTable
	idsName  = "ezq_ids"
)

func ids() catalog.OwnTable { return catalog.KeysTable(idsTable, "remembers IDs") }

// Prepared is what is known of what conditions need in the database beside the queues: the table of IDs,
// and an index of keys for each queue. Its methods may be called concurrently.
type Prepared struct {
	mu    sync.Mutex
	until map[string]time.Time // by table; it need not be looked for before that
	begun bool                 // transactions have to be begun: the sessions have another isolation level
	owed  int                  // IDs that were published since some were last forgotten
}

// NewPrepared returns a Prepared that knows of nothing.
func NewPrepared() *Prepared {
	return &Prepared{until: map[string]time.Time{}, owed: forgetAfter - 1}
}

// forgetAfter is after how many IDs a publisher forgets some whose time is over: twice as many, so that the table does
// not grow. A publisher begins with that, since many a program publishes one ID and ends.
const forgetAfter = 50

// Forgettable tells how many IDs a publish of so many messages is to forget, if it is to forget any.
func (p *Prepared) Forgettable(published int) (ids int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owed += published
	if p.owed < forgetAfter {
		return 0
	}
	ids, p.owed = 2*p.owed, 0
	return ids
}

// MustBegin is for when transactions have turned out not to be READ COMMITTED by themselves.
func (p *Prepared) MustBegin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
}

// Begins reports whether transactions have to be begun.
func (p *Prepared) Begins() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// Forget is for when something turned out to be gone.
func (p *Prepared) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.until)
}

func (p *Prepared) has(table string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.until[table])
}

func (p *Prepared) set(table string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bounded.Set(p.until, table, until)
}

// recheckAfter is how long what was there is not looked for again. A queue that was dropped and created anew has no index.
const recheckAfter = 5 * time.Minute

// Preparer makes what conditions need.
type Preparer struct {
	DB          transact.Queryer
	Pool        *pgxpool.Pool // to create things with, where DB is a transaction; nil if there is none
	Transaction bool          // DB is a transaction
	NoCreate    bool          // only look
	Prepared    *Prepared
}

// Prepare makes what insert needs.
func (p Preparer) Prepare(ctx context.Context, insert *Insert) error {
	if !insert.Batch.IsKeyed() {
		return p.ids(ctx)
	}
	var missing []string
	for _, queue := range insert.Route.Queues {
		if table := queuename.Table(queue); !p.Prepared.has(table) {
			missing = append(missing, table)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return p.keys(ctx, missing)
}

// ids makes sure that there is the table of IDs.
func (p Preparer) ids(ctx context.Context) error {
	if p.Prepared.has(idsTable) {
		return nil
	}
	missing, err := catalog.Missing(ctx, p.DB, catalog.MissingTablesSQL, idsTable)
	if err == nil && len(missing) > 0 {
		if p.NoCreate || p.Transaction && p.Pool == nil { // a rollback would take it back
			return ids().NotThere()
		}
		err = p.create(ctx, func(db transact.Queryer) error { return ids().Ensure(ctx, db) })
		if fault.IsCode(err, "42501") {
			err = ids().Explain(err)
		}
	}
	if err == nil {
		err = catalog.RequireTrusted(ctx, p.DB, []string{idsTable}, "")
	}
	if err == nil {
		p.Prepared.set(idsTable, time.Now().Add(recheckAfter))
	}
	return err
}

//go:embed sql/forget_ids.sql
var forgetIDsSQL string

// ForgetIDs forgets as many IDs whose time is over, in a transaction of its own, to which nothing else belongs. It returns
// [ErrTaken] if another transaction has locked their table.
func ForgetIDs(ctx context.Context, tx pgx.Tx, most int) error {
	_, err := tx.Exec(ctx, transact.PlanSQL+", pg_catalog.set_config('lock_timeout', '20ms', true)", pgx.QueryExecModeCacheDescribe)
	if err == nil {
		_, err = tx.Exec(ctx, strings.ReplaceAll(sqlfile.Text(forgetIDsSQL), "{ids}", idsTable), pgx.QueryExecModeCacheDescribe, most)
	}
	switch {
	case fault.IsOwnLockTimeout(err, idsName):
		return ErrTaken
	case fault.IsCode(err, "42703"): // undefined_column
		return ids().Explain(err)
	}
	return err
}

//go:embed sql/missing_indexes.sql
var missingIndexesSQL string

// keys makes sure that each table of a queue has an index of keys.
func (p Preparer) keys(ctx context.Context, tables []string) error {
	missing, err := catalog.Missing(ctx, p.DB, sqlfile.Text(missingIndexesSQL), tables...)
	if err != nil {
		return err
	}
	for _, table := range tables {
		pause := recheckAfter
		if slices.Contains(missing, table) {
			switch err := p.index(ctx, table); {
			case errors.Is(err, errBusy):
				pause = time.Minute
			case fault.IsCode(err, "57014") && ctx.Err() == nil: // query_canceled: it took too long, as beside headers of megabytes
			case err != nil:
				return err
			}
		}
		p.Prepared.set(table, time.Now().Add(pause))
	}
	return nil
}

// maxIndexed is how large a queue may be, in bytes, for its index to be built by a publish, which
// keeps all other publishers and consumers waiting for as long.
const maxIndexed = 64 << 20

// longestBuild is how long that may take. A queue that is as small as that takes a fraction of it, unless its headers are
// large; then the queue is searched without the index, which reads no large headers.
const longestBuild = 3 * time.Second

// errBusy says that an index cannot be made now: other transactions write to the queue, or the one that is
// published in does. The queue is small enough to do without for a while.
var errBusy = errors.New("pgmq: the queue is in use")

func (p Preparer) index(ctx context.Context, table string) error {
	var large bool
	index := catalog.Index{Name: schema.KeyIndex().Name(table), Table: table, Expressions: schema.KeysSQL}
	rows, err := p.DB.Query(ctx, sizeSQL, pgx.QueryExecModeCacheDescribe, table, int64(maxIndexed), catalog.QualifiedIndex(index.Name))
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&large, &index.Partitioned, &index.Taken}, func() error { return nil })
	}
	if err != nil {
		return err
	}
	remedy := "let its owner run " + index.Remedy()
	switch {
	case index.Taken && (p.NoCreate || large):
		return p.taken(ctx, table, remedy)
	case p.NoCreate, large:
		return &fault.Error{Kind: fault.ErrNotPrepared, Cause: fmt.Errorf("%s has no index of keys", table), Remedy: remedy}
	case p.Transaction && p.Pool == nil:
		return errBusy
	}
	create := "select pg_catalog.set_config('lock_timeout', '100ms', true), " + transact.StatementTimeoutSQL(longestBuild) + "; create index " + index.Name + " on " + table + " " + index.Expressions
	err = p.create(ctx, func(db transact.Queryer) error {
		return catalog.Ensure(ctx, db, table, sqlfile.Text(missingIndexesSQL), create)
	})
	switch {
	case fault.IsCode(err, "42501"): // insufficient_privilege
		return &fault.Error{Kind: fault.ErrNotPrepared, Cause: fault.WithoutSecrets(err), Remedy: remedy}
	case fault.IsCode(err, "55P03"): // lock_not_available
		return errBusy
	case fault.IsCode(err, "42P07"): // duplicate_table
		return p.taken(ctx, table, remedy)
	}
	return err
}

// taken returns what to do about an index that has the name of that of a table, and is another one; or nil if another
// process has built the index just now.
func (p Preparer) taken(ctx context.Context, table, remedy string) error {
	missing, err := catalog.Missing(ctx, p.DB, sqlfile.Text(missingIndexesSQL), table)
	if err != nil || len(missing) == 0 {
		return err
	}
	return &fault.Error{
		Kind:   fault.ErrNotPrepared,
		Cause:  fmt.Errorf("%s has no index of keys, and what has its name is another one, or was not built to its end", table),
		Remedy: "if no session builds it, which pg_stat_progress_create_index shows, " + remedy,
	}
}

// sizeSQL tells of a table with its partitions whether it is larger than that, and whether it has any; and whether the name
// of its index is taken.
const sizeSQL = `
select pg_catalog.pg_relation_size(c.oid) + coalesce((select pg_catalog.sum(pg_catalog.pg_relation_size(relid)) from pg_catalog.pg_partition_tree(c.oid))::bigint, 0) > $2::bigint, c.relkind = 'p',
	pg_catalog.to_regclass($3::text) is not null
from pg_class c where c.oid = pg_catalog.to_regclass($1::text)::oid`

// create has something created, on a connection of its own if there is a pool, so that it is there whatever becomes of a
// transaction.
func (p Preparer) create(ctx context.Context, create func(transact.Queryer) error) error {
	if p.Pool == nil {
		return create(p.DB)
	}
	conn, err := dial.Connect(ctx, p.Pool.Config())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return create(conn)
}

// Explain returns err with what is to be done, if it is about the privileges that insert needs, or the table of IDs.
func Explain(err error, insert *Insert) error {
	aboutIDs := fault.IsAbout(err, idsName)
	switch {
	case !fault.IsCode(err, "42501"): // insufficient_privilege
		if aboutIDs || fault.IsConflictWithoutKey(err) {
			return ids().Explain(err)
		}
		return err
	case aboutIDs:
		return denied(err, ids().Grants)
	}
	privileges := "INSERT (vt, message, headers)"
	switch keyed := insert.Batch.IsKeyed(); {
	case keyed && insert.Batch.Conditions[0].Replace:
		privileges = "SELECT, INSERT (vt, message, headers), UPDATE (vt, message, headers)"
	case keyed:
		privileges = "SELECT, INSERT (vt, message, headers)"
	}
	var grants []string
	for _, queue := range insert.Route.Queues {
		grants = append(grants, fmt.Sprintf("GRANT %s ON %s TO the role", privileges, queuename.Table(queue)))
	}
	return denied(err, strings.Join(grants, "; "))
}

func denied(err error, grants string) error {
	return &fault.Error{Kind: fault.ErrPermission, Cause: fault.WithoutSecrets(err), Remedy: "let the owner run " + grants}
}
