package pgmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DBTX is what publishing needs from PostgreSQL: Exec and Query, as a *pgxpool.Pool,
// a *pgx.Conn and a pgx.Tx have them.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// catalog remembers queues that were seen to exist. Publisher and subscriber share it.
// A caller that finds a queue gone calls forget. Only callers that cannot find that
// out without harm rely on it, such as a publisher in a transaction. A subscription
// looks.
type catalog struct {
	mu    sync.Mutex
	known map[string]struct{}
}

// maxCached bounds what is remembered of topics and queues. Others are looked up when
// they are needed.
const maxCached = 10_000

func newCatalog() *catalog {
	return &catalog{known: map[string]struct{}{}}
}

// ensure makes sure that queue exists, as far as known.
func (c *catalog) ensure(ctx context.Context, db DBTX, queue string, create creator) error {
	if c.knows(queue) {
		return nil
	}
	_, err := c.lookUp(ctx, db, queue, create)
	return err
}

// knows reports whether queue was there when it was last looked at.
func (c *catalog) knows(queue string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.known[queue]
	return ok
}

// lookUp looks up queue through db. If it does not exist, it is created with create,
// unless that is nil.
func (c *catalog) lookUp(ctx context.Context, db DBTX, queue string, create creator) (queueLayout, error) {
	c.forget(queue)
	found, err := probe(ctx, db, queue)
	if err != nil {
		return queueLayout{}, err
	}
	if !found.exists() {
		if create == nil {
			return found, queueNotFound(queue)
		}
		if found, err = create(ctx, queue, plainCreation(queue)); err != nil {
			return queueLayout{}, err
		}
	}
	c.remember(queue)
	return found, nil
}

// createOwn creates a topic's own queue, as far as it has no groups; else it returns
// errHasGroups. grouping says that there can be any.
func (c *catalog) createOwn(ctx context.Context, topic, own string, create creator, grouping bool) (queueLayout, error) {
	if create == nil {
		return queueLayout{}, queueNotFound(own)
	}
	creation := plainCreation(own)
	if grouping {
		creation = creationUnlessGrouped(topic, own)
	}
	found, err := create(ctx, own, creation)
	if grouping && errors.Is(err, ErrQueueNotFound) {
		return queueLayout{}, errHasGroups
	}
	if err != nil {
		return queueLayout{}, err
	}
	c.remember(own)
	return found, nil
}

func (c *catalog) remember(queue string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	setBounded(c.known, queue, struct{}{})
}

// forget is for a queue that turned out to be gone.
func (c *catalog) forget(queue string) {
	c.mu.Lock()
	delete(c.known, queue)
	c.mu.Unlock()
}

// setBounded sets a key of a cache, and leaves another one out, whichever, where there
// are too many.
func setBounded[T any](cache map[string]T, key string, value T) {
	if _, ok := cache[key]; !ok && len(cache) >= maxCached {
		for other := range cache {
			delete(cache, other)
			break
		}
	}
	cache[key] = value
}

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

func probe(ctx context.Context, db DBTX, queue string) (queueLayout, error) {
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

func (l queueLayout) exists() bool           { return l.OID != 0 }
func (l queueLayout) has(column string) bool { return slices.Contains(l.Columns, column) }

// isQueue reports whether the table has what queues of every version have.
func (l queueLayout) isQueue() bool {
	return l.Table && l.has("msg_id int8") && l.has("read_ct int4") && l.has("message jsonb") &&
		l.has("enqueued_at timestamptz") && l.has("vt timestamptz")
}

// creation is the statement that creates a queue, and its parameters.
type creation struct {
	sql  string
	args []any
}

func plainCreation(queue string) creation {
	return creation{"select pgmq.create($1::text)", []any{pgx.QueryExecModeCacheDescribe, queue}}
}

// creator creates a queue and returns what it looks like.
type creator func(ctx context.Context, queue string, creation creation) (queueLayout, error)

// createWith creates queues through db. Two that create the same queue at once
// can get in each other's way (before PGMQ 1.6, which takes a lock); they
// succeed if the queue is there afterwards.
func createWith(db DBTX) creator {
	return func(ctx context.Context, queue string, creation creation) (queueLayout, error) {
		_, failed := db.Exec(ctx, creation.sql, creation.args...)
		if failed != nil && !isCode(failed, "23505", "42P07", "40P01", "XX000") {
			return queueLayout{}, failed
		}
		found, err := probe(ctx, db, queue)
		if err != nil {
			return queueLayout{}, err
		}
		if !found.exists() {
			return queueLayout{}, firstError(failed, queueNotFound(queue))
		}
		return found, nil
	}
}

// createSeparately creates queues on a connection of its own, for publishers in a
// transaction. The queue is there whatever becomes of the transaction, and a pool
// whose connections are all in transactions is not waited for.
func createSeparately(pool *pgxpool.Pool) creator {
	return func(ctx context.Context, queue string, creation creation) (queueLayout, error) {
		conn, err := connect(ctx, pool.Config())
		if err != nil {
			return queueLayout{}, err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		return createWith(conn)(ctx, queue, creation)
	}
}

// checkInstalled returns an error if PGMQ cannot be used in the database of db.
func checkInstalled(ctx context.Context, db DBTX) error {
	_, err := probe(ctx, db, "ezq")
	return classify("open", "", err)
}

func queueNotFound(queue string) error {
	return &Error{
		Kind: ErrQueueNotFound, Cause: fmt.Errorf("there is no queue %q", queue),
		Remedy: fmt.Sprintf("create it with select pgmq.create('%s'), or leave NoCreate unset", queue),
	}
}

// groupNotFound is queueNotFound for the queue of a group, which nothing is published to before it
// is bound to the topic.
func groupNotFound(group, queue string) error {
	return &Error{Kind: ErrQueueNotFound, Cause: fmt.Errorf("there is no queue %q of the group %q", queue, group), Remedy: groupRemedy}
}

const groupRemedy = "check the name of the Group; if it is right, let the owner declare its queue, with SubscribeInitialize of a program that has that Group, " +
	"or leave NoCreate unset"

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
