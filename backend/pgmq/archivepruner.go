package pgmq

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/prune_archive.sql
var pruneArchiveSQL string

// archivePruner deletes what was acked long ago from the archive of a queue.
type archivePruner struct {
	pool  *pgxpool.Pool
	queue string
	keep  time.Duration
}

func (p *archivePruner) job() pruneJob {
	start := archivePlace{at: timeOr(time.Time{}, pgtype.NegativeInfinity), id: math.MinInt64}
	walk := &pruneWalk[archivePlace]{table: p, start: start, last: start}
	return pruneJob{failed: "ezq: the archive cannot be pruned", prune: func(ctx context.Context) error {
		table := queuename.Archive(p.queue)
		there, err := exists(ctx, p.pool, table)
		if there {
			err = unlessDropped(ctx, p.pool, table, walk.round(ctx))
		}
		return fault.Classify("prune the archive", "", err)
	}}
}

// archivePlace is how far a round through an archive has come: the last message that it has looked at.
type archivePlace struct {
	at pgtype.Timestamptz
	id int64
}

func (p *archivePruner) step(ctx context.Context, after archivePlace, limit int) (next archivePlace, more bool, err error) {
	sql := archiveNames(p.queue).Replace(sqlfile.Text(pruneArchiveSQL))
	limited, cancel := context.WithTimeout(ctx, 2*pruneTimeout)
	defer cancel()
	err = transact.Run(limited, p.pool, pruneSettings(), func(tx pgx.Tx) error {
		return tx.QueryRow(limited, sql, pgx.QueryExecModeCacheDescribe, after.at, after.id, p.keep.Seconds(), limit).Scan(new(int), new(int), &next.at, &next.id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return after, false, nil
	}
	return next, true, err
}

func (p *archivePruner) passBy(ctx context.Context, after archivePlace, cause error) (next archivePlace, stays error) {
	const sql = "select archived_at, msg_id from {archive} where (archived_at, msg_id) > ($1::timestamptz, $2::bigint) and vt < 'infinity' order by archived_at, msg_id limit 1"
	limited, cancel := context.WithTimeout(ctx, pruneTimeout)
	defer cancel()
	err := p.pool.QueryRow(limited, archiveNames(p.queue).Replace(sql), pgx.QueryExecModeCacheDescribe, after.at, after.id).Scan(&next.at, &next.id)
	if err != nil {
		return after, cause
	}
	return next, fmt.Errorf("the message %d stays: %w", next.id, cause)
}
