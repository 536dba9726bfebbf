package pgmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
)

// archiveName returns the quoted name of a queue's archive.
func archiveName(queue string) string {
	return pgx.Identifier{"pgmq", "a_" + queue}.Sanitize()
}

// archiving returns sql with acks that move messages to the archive of queue.
func archiving(ctx context.Context, db DBTX, queue string, sql statements) (statements, error) {
	columns, err := archiveColumns(ctx, db, queue)
	if err != nil {
		return statements{}, err
	}
	also := []string{"{also}", "", "{m.also}", ""}
	if slices.Contains(columns, "last_read_at") { // PGMQ 1.10
		also = []string{"{also}", ", last_read_at", "{m.also}", ", m.last_read_at"}
	}
	text := strings.NewReplacer("{archive}", archiveName(queue), "{queue}", queue).Replace(archiveSQL)
	sql.removeLocked = "" // deletes
	sql.share = sql.fences.Replace(strings.Replace(shareSQL, "{also}", ", "+archiveName(queue), 1))
	sql.ack = sql.fences.Replace(strings.NewReplacer(also...).Replace(text))
	sql.ackOne = waitingForLocks(sql.ack)
	return sql, nil
}

// One statement: a message is in one of the tables at any time.
//
// The archive can have a message with the same msg_id already: an unlogged queue
// counts from 1 again after a crash, and its archive, which is logged, still has
// what was there before (with PGMQ's own function archiving then fails, until the
// ids are past that). The message gets a negative number there, at random so that
// concurrent acks do not choose the same, and keeps the id made of its own.
const archiveSQL = `
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from ` + lockedSQL + `),
d as (
	delete from {table} m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers{m.also}),
a as (
	insert into {archive} (msg_id, read_ct, enqueued_at, vt, message, headers{also})
	select msg_id, read_ct, enqueued_at, vt, message, headers{also} from d
	on conflict do nothing
	returning msg_id),
b as (
	insert into {archive} (msg_id, read_ct, enqueued_at, vt, message, headers{also})
	select -1 - floor(random() * 9e18)::bigint, read_ct, enqueued_at, vt, message,
		jsonb_build_object('` + uuidKey + `', '{queue}/' || msg_id) ||
			case when jsonb_typeof(headers) = 'object' then headers else '{}' end{also}
	from d where msg_id not in (select msg_id from a))
select msg_id from d`

// A table keeps the columns it was created with: those of the archive are asked
// for as those of the queue are.
const archiveColumnsSQL = `
select array(
		select attname::text from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped
		intersect
		select attname::text from pg_attribute where attrelid = to_regclass($2) and attnum > 0 and not attisdropped),
	coalesce(has_table_privilege(to_regclass($2), 'select') and has_table_privilege(to_regclass($2), 'insert'), false)`

// archiveColumns returns the columns that a queue and its archive both have, if
// messages can be moved between them.
func archiveColumns(ctx context.Context, db DBTX, queue string) ([]string, error) {
	rows, err := db.Query(ctx, archiveColumnsSQL, pgx.QueryExecModeCacheDescribe, tableName(queue), archiveName(queue))
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[struct {
		Columns []string
		Allowed bool
	}])
	switch {
	case err != nil:
		return nil, err
	case len(found.Columns) == 0:
		return nil, &Error{
			Kind: ErrQueueNotFound, Cause: fmt.Errorf("the queue %q has no archive", queue),
			Remedy: fmt.Sprintf("let its owner run SELECT pgmq.create('%s'), which creates what is missing", queue),
		}
	case !slices.Contains(found.Columns, "headers"):
		return nil, &Error{
			Kind: ErrTooOld, Cause: fmt.Errorf("%s has no headers", archiveName(queue)),
			Remedy: fmt.Sprintf("let its owner run ALTER TABLE %s ADD COLUMN headers jsonb", archiveName(queue)),
		}
	case !found.Allowed:
		return nil, &Error{
			Kind: ErrPermission, Cause: fmt.Errorf("the role may not archive to %s", archiveName(queue)),
			Remedy: fmt.Sprintf("let its owner run GRANT SELECT, INSERT ON %s TO the role", archiveName(queue)),
		}
	}
	return found.Columns, nil
}

// ReplayFilter chooses archived messages. The zero value chooses all.
type ReplayFilter struct {
	// From and To choose those that were archived at From or later, and before To,
	// by the clock of PostgreSQL. The zero Time does not limit. Messages archived
	// after the call of Replay are not chosen.
	From, To time.Time

	// Limit is how many messages to replay at most. 0 does not limit.
	Limit int
}

func (f ReplayFilter) check() error {
	if f.Limit < 0 {
		return &Error{Kind: ErrInvalidConfig, Cause: fmt.Errorf("the limit is %d", f.Limit), Remedy: "set it to 0 for no limit, or more"}
	}
	return nil
}

// Headers that are not an object are not ezq's and mean nothing to PGMQ.
const replaySQL = `
with r as materialized (
	select msg_id, archived_at, message, headers from {archive}
	where (archived_at, msg_id) > ($1::timestamptz, $2::bigint) and archived_at < $3::timestamptz
		and not coalesce(headers ? '` + backend.DeadLetterReason + `' and not headers ? '` + backend.DeadLetterTopic + `', false)
	order by archived_at, msg_id
	limit $4),
i as (
	insert into {table} (vt, message, headers{columns})
	select clock_timestamp(), message, jsonb_build_object('` + uuidKey + `', '{queue}/' || msg_id) ||
		case when jsonb_typeof(headers) = 'object' then headers - $5::text[] else '{}' end{values}
	from r order by archived_at, msg_id)
select archived_at, msg_id, (select count(*) from r)::int from r order by archived_at desc, msg_id desc limit 1`

// replay publishes what the filter chooses of the archive of queue.
func (f ReplayFilter) replay(ctx context.Context, pool *pgxpool.Pool, queue string) (replayed int, err error) {
	until, err := queryValue[time.Time](ctx, pool, "select least($1::timestamptz, clock_timestamp())", timeOr(f.To, pgtype.Infinity))
	if err != nil {
		return 0, replayDenied(err, queue)
	}
	columns, values, err := leasedMarkColumns(ctx, pool, queue)
	if err != nil {
		return 0, replayDenied(err, queue)
	}
	sql := strings.NewReplacer("{columns}", columns, "{values}", values).Replace(archiveNames(queue).Replace(replaySQL))
	limit := f.Limit
	if limit == 0 {
		limit = math.MaxInt
	}
	after, id := timeOr(f.From, pgtype.NegativeInfinity), int64(math.MinInt64)
	for replayed < limit {
		var n int
		err := inTransaction(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe,
				after, id, until, min(limit-replayed, 1000), []string{failuresKey, doneKey, unknownKey}).Scan(&after, &id, &n)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if err != nil {
			return replayed, replayDenied(err, queue)
		}
		replayed += n
	}
	return replayed, nil
}

// There is an index on archived_at, and in a partitioned archive no other one.
const purgeArchiveSQL = `
with doomed as (
	select msg_id, archived_at from {archive}
	where (archived_at, msg_id) > ($1::timestamptz, $2::bigint) and archived_at < $3
	order by archived_at, msg_id
	limit 1000
	for update),
d as (
	delete from {archive}
	where archived_at = any(array(select archived_at from doomed)) and msg_id = any(array(select msg_id from doomed))
	returning 1)
select (select count(*) from doomed)::int, (select count(*) from d)::int, archived_at, msg_id
from doomed order by archived_at desc, msg_id desc limit 1`

// purgeArchive deletes what was archived before olderThan.
func purgeArchive(ctx context.Context, pool *pgxpool.Pool, queue string, olderThan time.Time) (deleted int, err error) {
	sql := archiveNames(queue).Replace(purgeArchiveSQL)
	after, id, kept := timeOr(time.Time{}, pgtype.NegativeInfinity), int64(math.MinInt64), 0
	for {
		var n, removed int
		err := inTransaction(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, after, id, olderThan).Scan(&n, &removed, &after, &id)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return deleted, keptError(kept, archiveName(queue))
		}
		if err != nil {
			return deleted, replayDenied(err, queue)
		}
		deleted, kept = deleted+removed, kept+n-removed
	}
}

func archiveNames(queue string) *strings.Replacer {
	return strings.NewReplacer("{archive}", archiveName(queue), "{table}", tableName(queue), "{queue}", queue)
}

func timeOr(t time.Time, otherwise pgtype.InfinityModifier) pgtype.Timestamptz {
	if t.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: otherwise, Valid: true}
	}
	return pgtype.Timestamptz{Time: t, Valid: true}
}

func replayDenied(err error, queue string) error {
	if !isCode(err, "42501") {
		return err
	}
	return &Error{
		Kind: ErrPermission, Cause: withoutSecrets(err),
		Remedy: fmt.Sprintf("let their owner run GRANT SELECT, UPDATE, DELETE ON %s TO the role; GRANT INSERT ON %s TO the role",
			archiveName(queue), tableName(queue)),
	}
}
