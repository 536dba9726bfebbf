package pgmq

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

// uniqueKey is the header that has the key of a message that was published with one. It is the name of the
// topic's own queue, "/" and the key, so that messages of several topics in one queue, which is
// bound to them, do not share their keys.
const uniqueKey = reservedPrefix + "unique"

// conditionalInsert stores messages, each as far as its condition allows.
//
// Which one of several publishers is first is decided by PostgreSQL: for an ID by the primary
// key of a table of IDs; for a key by an advisory lock, for the length of the transaction, under
// which the queue is searched for the key. A unique index would decide that too, but a message
// that is being handled has to stay beside one that is to replace it, a conflict with a message
// that a consumer has locked would wait for its handler, and a partitioned table can have none.
type conditionalInsert struct {
	to     *route
	batch  insertBatch
	window time.Duration
}

// rowReader is a transaction or a connection, as far as conditions need it.
type rowReader interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// lock is the key that is locked first, or "".
func (c *conditionalInsert) lock() string {
	if keyed := c.batch.keyed(); keyed != nil {
		return c.to.own + "/" + keyed.Key
	}
	return ""
}

// lockKeySQL takes the lock of a key. The seed keeps it apart from locks of other programs.
const lockKeySQL = "select pg_advisory_xact_lock(hashtextextended($1::text, 7301942)) is not null"

// statement returns the SQL, of which the only row says whether the route is right, and what was found
// there: the ID of another message, or the places of those that are stored.
func (c *conditionalInsert) statement() (sql string, args []any) {
	args = []any{c.batch.messages, c.batch.headers, c.batch.delays, c.batch.times, c.to.version}
	keyed := c.batch.keyed()
	switch {
	case keyed == nil:
		return c.to.insertNew, append(args, c.digests(), c.window.Microseconds())
	case keyed.Replace:
		return c.to.replace, append(args, c.lock(), keyed.Debounce.Microseconds())
	default:
		return c.to.insertUnique, append(args, c.lock())
	}
}

// digests are what the table of IDs has of the messages that are stored once, in hexadecimal. The others have "".
func (c *conditionalInsert) digests() []string {
	digests := make([]string, c.batch.len())
	for i, condition := range c.batch.conditions {
		if condition != nil {
			digests[i] = hex.EncodeToString(digest(c.to.own + "/" + c.batch.ids[i]))
		}
	}
	return digests
}

// run stores the messages through db, which is a transaction if there is a key to lock. It returns no
// results if the route is old: then nothing is stored.
func (c *conditionalInsert) run(ctx context.Context, db rowReader) (results []backend.PublishResult, err error) {
	if key := c.lock(); key != "" {
		if err := db.QueryRow(ctx, lockKeySQL, pgx.QueryExecModeCacheDescribe, key).Scan(new(bool)); err != nil {
			return nil, err
		}
	}
	sql, args := c.statement()
	return c.scan(db.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...))
}

// runTransaction is run in a transaction of its own, in one round trip.
func (c *conditionalInsert) runTransaction(ctx context.Context, db batchSender) (results []backend.PublishResult, err error) {
	transaction := &transaction{}
	transaction.Queue(readCommittedSQL)
	transaction.Queue(lockKeySQL, c.lock())
	sql, args := c.statement()
	transaction.Queue(sql, args...).QueryRow(func(row pgx.Row) (err error) {
		results, err = c.scan(row)
		return err
	})
	return results, transaction.run(ctx, db)
}

func (c *conditionalInsert) scan(row pgx.Row) ([]backend.PublishResult, error) {
	var valid bool
	var found string
	if err := row.Scan(&valid, &found); err != nil || !valid {
		return nil, err
	}
	if keyed := c.batch.keyed(); keyed != nil {
		switch {
		case found == "":
			return []backend.PublishResult{{ID: c.batch.ids[0]}}, nil
		case keyed.Replace:
			return []backend.PublishResult{{Outcome: backend.Replaced, ID: found}}, nil
		default:
			return []backend.PublishResult{{Outcome: backend.Existed, ID: found}}, nil
		}
	}
	results := make([]backend.PublishResult, c.batch.len())
	for i := range results {
		results[i] = backend.PublishResult{Outcome: backend.Existed, ID: c.batch.ids[i]}
	}
	for place := range strings.SplitSeq(found, ",") {
		if n, err := strconv.Atoi(place); err == nil && n >= 1 && n <= len(results) {
			results[n-1].Outcome = backend.Stored
		}
	}
	return results, nil
}

// newRowsSQL is rowsSQL with the places of the messages, and without those whose IDs are known. Of several
// with one ID the first counts. The IDs are remembered in their order, so that two transactions do
// not wait for each other. Two IDs that are over are forgotten for each that comes.
func newRowsSQL(unlessChanged string) string {
	return `
with t as materialized (
	select t.message, t.headers, t.delay, t.at, t.n, decode(nullif(t.id, ''), 'hex') as id, row_number() over (partition by t.id order by t.n) as copy
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $6::text[]) with ordinality as t(message, headers, delay, at, id, n)` + unlessChanged + `),
over as (
	delete from ` + idsTable + ` where key = any(array(
		select key from ` + idsTable + ` where until <= now() and key <> all(array(select id from t where id is not null))
		order by until limit (select 2 * count(id) from t) for update skip locked))),
fresh as (
	insert into ` + idsTable + ` as known (key, until)
	select id, now() + $7::bigint * interval '1 microsecond' from t where id is not null and copy = 1 order by id
	on conflict (key) do update set until = excluded.until where known.until <= now()
	returning key),
r as materialized (
	select coalesce(at, clock_timestamp() + delay * interval '1 microsecond') as vt, message::jsonb as message, headers::jsonb as headers, n
	from t where id is null or copy = 1 and id in (select key from fresh) order by n)`
}

// insertNew returns the statement that stores messages in each of the queues, but for those whose IDs are
// known.
func insertNew(queues []string, unlessChanged string) string {
	var sql strings.Builder
	sql.WriteString(newRowsSQL(unlessChanged))
	for i, queue := range queues {
		fmt.Fprintf(&sql, ",\ni%d as (insert into %s (vt, message, headers) select vt, message, headers from r order by n)", i, tableName(queue))
	}
	sql.WriteString("\nselect exists (select from t), coalesce((select string_agg(n::text, ',') from r), '')")
	return sql.String()
}

// The limit is one that PostgreSQL cannot know when it plans: whatever it expects of a queue, it looks
// the key up in the index.
const withKeySQL = `headers ? '` + uniqueKey + `' and headers->>'` + uniqueKey + `' = $6`

// keyedRowsSQL is rowsSQL with the key in the headers.
func keyedRowsSQL() string {
	return strings.Replace(rowsSQL, "t.headers::jsonb", "t.headers::jsonb || jsonb_build_object('"+uniqueKey+"', $6::text)", 1)
}

// insertUnique returns the statement that stores one message in each of the queues that has none of its
// key.
func insertUnique(queues []string, unlessChanged string) string {
	var sql, found strings.Builder
	sql.WriteString("\nwith r as materialized (" + keyedRowsSQL() + unlessChanged + ")")
	for i, queue := range queues {
		fmt.Fprintf(&sql, `,
e%[1]d as materialized (select coalesce(headers->>'%[4]s', '%[3]s/' || msg_id) as id from %[2]s where %[5]s limit (select 1)),
i%[1]d as (insert into %[2]s (vt, message, headers) select vt, message, headers from r where not exists (select from e%[1]d))`,
			i, tableName(queue), queue, uuidKey, withKeySQL)
		writeFound(&found, "e", i)
	}
	// If one of the queues has stored it, it is stored.
	fmt.Fprintf(&sql, "\nselect exists (select from r), coalesce((select min(id) from (%s) as e having count(*) = %d), '')", found.String(), len(queues))
	return sql.String()
}

// replaceOrInsert returns the statement that replaces, in each of the queues, the message of a key that has
// never been delivered and is not locked, or stores one where there is none.
func replaceOrInsert(queues []string, unlessChanged string) string {
	var sql, found strings.Builder
	sql.WriteString("\nwith r as materialized (" + keyedRowsSQL() + unlessChanged + ")")
	for i, queue := range queues {
		fmt.Fprintf(&sql, `,
e%[1]d as materialized (
	select msg_id, enqueued_at, coalesce(headers->>'%[4]s', '%[3]s/' || msg_id) as id from %[2]s
	where %[5]s and read_ct = 0 and exists (select from r) limit (select 1) for update skip locked),
u%[1]d as (
	update %[2]s m set message = r.message, headers = r.headers,
		vt = case when $7::bigint > 0 then least(r.vt, e.enqueued_at + $7::bigint * interval '1 microsecond') else m.vt end
	from e%[1]d e, r where m.msg_id = e.msg_id),
i%[1]d as (insert into %[2]s (vt, message, headers) select vt, message, headers from r where not exists (select from e%[1]d))`,
			i, tableName(queue), queue, uuidKey, withKeySQL)
		writeFound(&found, "e", i)
	}
	fmt.Fprintf(&sql, "\nselect exists (select from r), coalesce((select min(id) from (%s) as e), '')", found.String())
	return sql.String()
}

func writeFound(found *strings.Builder, name string, i int) {
	if i > 0 {
		found.WriteString(" union all ")
	}
	fmt.Fprintf(found, "select id from %s%d", name, i)
}
