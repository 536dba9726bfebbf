package pgmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

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
	select clock_timestamp(), message, jsonb_build_object('` + codec.UUIDKey + `', '{queue}/' || msg_id) ||
		case when jsonb_typeof(headers) = 'object' then headers - $5::text[] else '{}' end{values}
	from r order by archived_at, msg_id)
select archived_at, msg_id, (select count(*) from r)::int from r order by archived_at desc, msg_id desc limit 1`

// replay publishes what the filter chooses of the archive of queue.
func (f ReplayFilter) replay(ctx context.Context, pool *pgxpool.Pool, queue string) (replayed int, err error) {
	until, err := transact.Value[time.Time](ctx, pool, "select least($1::timestamptz, clock_timestamp())", timeOr(f.To, pgtype.Infinity))
	if err != nil {
		return 0, replayDenied(err, queue)
	}
	columns, values, err := catalog.LeasedMarkColumns(ctx, pool, queue)
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
		err := transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe,
				after, id, until, min(limit-replayed, 1000), []string{codec.FailuresKey, codec.DoneKey, codec.UnknownKey}).Scan(&after, &id, &n)
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
		err := transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, after, id, olderThan).Scan(&n, &removed, &after, &id)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return deleted, keptError(kept, queuename.Archive(queue))
		}
		if err != nil {
			return deleted, replayDenied(err, queue)
		}
		deleted, kept = deleted+removed, kept+n-removed
	}
}

func archiveNames(queue string) *strings.Replacer {
	return strings.NewReplacer("{archive}", queuename.Archive(queue), "{table}", queuename.Table(queue), "{queue}", queue)
}

func timeOr(t time.Time, otherwise pgtype.InfinityModifier) pgtype.Timestamptz {
	if t.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: otherwise, Valid: true}
	}
	return pgtype.Timestamptz{Time: t, Valid: true}
}

func replayDenied(err error, queue string) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	return &Error{
		Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
		Remedy: fmt.Sprintf("let their owner run GRANT SELECT, UPDATE, DELETE ON %s TO the role; GRANT INSERT ON %s TO the role",
			queuename.Archive(queue), queuename.Table(queue)),
	}
}
