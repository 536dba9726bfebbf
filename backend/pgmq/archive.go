package pgmq

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

var (
	//go:embed sql/replay.sql
	replaySQL string
	//go:embed sql/purge_archive.sql
	purgeArchiveSQL string
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

// replay publishes what the filter chooses of the archive of queue.
func (f ReplayFilter) replay(ctx context.Context, pool *pgxpool.Pool, queue string) (replayed int, err error) {
	until, err := transact.Value[time.Time](ctx, pool, "select least($1::timestamptz, clock_timestamp())", timeOr(f.To, pgtype.Infinity))
	if err != nil {
		return 0, err
	}
	columns, values, err := catalog.LeasedMarkColumns(ctx, pool, queue)
	if err != nil {
		return 0, err
	}
	sql := strings.NewReplacer("{columns}", columns, "{values}", values, "{all stored}", catalog.AllStored("r", "i")).Replace(archiveNames(queue).Replace(sqlfile.Text(replaySQL)))
	limit := f.Limit
	if limit == 0 {
		limit = math.MaxInt
	}
	after, id := timeOr(f.From, pgtype.NegativeInfinity), int64(math.MinInt64)
	for replayed < limit {
		var n int
		err := transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe,
				after, id, until, min(limit-replayed, 1000), codec.ResetKeys()).Scan(&after, &id, &n)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if err != nil {
			return replayed, replayDenied(fault.Changed(err, n), queue, columns)
		}
		replayed += n
	}
	return replayed, nil
}

// purgeArchive deletes what was archived before that time.
func purgeArchive(ctx context.Context, pool *pgxpool.Pool, queue string, before time.Time) (deleted int, err error) {
	sql := archiveNames(queue).Replace(sqlfile.Text(purgeArchiveSQL))
	after, id, kept := timeOr(time.Time{}, pgtype.NegativeInfinity), int64(math.MinInt64), 0
	for {
		var n, removed int
		err := transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, after, id, before).Scan(&n, &removed, &after, &id)
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return deleted, keptError(kept, queuename.Archive(queue))
		}
		if err != nil {
			return deleted, fault.Changed(err, removed)
		}
		deleted, kept = deleted+removed, kept+n-removed
	}
}

func archiveNames(queue string) *strings.Replacer {
	return strings.NewReplacer("{archive}", queuename.Archive(queue), "{table}", queuename.Table(queue), "{queue}", sqlfile.Literal(queue))
}

func timeOr(t time.Time, otherwise pgtype.InfinityModifier) pgtype.Timestamptz {
	if t.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: otherwise, Valid: true}
	}
	return pgtype.Timestamptz{Time: t, Valid: true}
}

// replayDenied returns err, or says which rights to the archive and to the queue a role lacks. columns are those of
// [catalog.LeasedMarkColumns].
func replayDenied(err error, queue, columns string) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	return &Error{
		Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
		Remedy: fmt.Sprintf("let their owner run GRANT SELECT ON %s TO the role; GRANT INSERT (vt, message, headers%s) ON %s TO the role",
			queuename.Archive(queue), columns, queuename.Table(queue)),
	}
}

// replay is [Client.Replay].
func replay(ctx context.Context, p *Publisher, s *Subscriber, topic string, filter ReplayFilter) (replayed int, err error) {
	const op = "replay"
	queue, err := s.consumedQueue(topic)
	if err == nil {
		err = filter.check()
	}
	if err != nil {
		return 0, fault.Classify(op, topic, err)
	}
	replayed, err = filter.replay(ctx, s.pool, queue)
	if replayed > 0 {
		p.notify([]string{queue})
	}
	return replayed, s.consumerError(ctx, op, topic, err)
}

// purgeArchiveOf is [Client.PurgeArchive].
func purgeArchiveOf(ctx context.Context, s *Subscriber, topic string, before time.Time) (deleted int, err error) {
	const op = "purge the archive"
	queue, err := s.consumedQueue(topic)
	if err != nil {
		return 0, fault.Classify(op, topic, err)
	}
	deleted, err = purgeArchive(ctx, s.pool, queue, before)
	return deleted, s.consumerError(ctx, op, topic, err)
}
