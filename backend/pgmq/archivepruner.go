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
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/prune_archive.sql
var pruneArchiveSQL string

const (
	pruneLimit = 1000 // messages that a step looks at
	pruneLeft  = 20   // messages that do not go, and after which a round ends
)

// archivePruner deletes what was acked long ago from the archive of a queue.
type archivePruner struct {
	pool  *pgxpool.Pool
	queue string
	keep  time.Duration
}

func (p *archivePruner) job() pruneJob {
	return pruneJob{failed: "ezq: the archive cannot be pruned", prune: func(ctx context.Context) error {
		return fault.Classify("prune the archive", "", p.prune(ctx))
	}}
}

// prune goes once through what was archived too long ago. What takes too long together, or is refused, it
// deletes in smaller steps; a message that alone does not go stays, and keeps no others.
func (p *archivePruner) prune(ctx context.Context) (stays error) {
	place, limit := archivePlace{at: timeOr(time.Time{}, pgtype.NegativeInfinity), id: math.MinInt64}, pruneLimit
	for left := 0; ; {
		next, err := p.step(ctx, place, limit)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return stays
		case err == nil:
			place, limit = next, min(10*limit, pruneLimit)
		case !fault.IsStatementTimeout(err) && fault.MayBeRetried(err), left == pruneLeft:
			return err
		case limit > 1:
			limit /= 10
		default:
			left++
			if place, err = p.passBy(ctx, place, err); stays == nil {
				stays = err
			}
		}
		if !transact.Wait(ctx, prunePause) {
			return nil
		}
	}
}

// archivePlace is how far a round through an archive has come: the last message that it has looked at.
type archivePlace struct {
	at pgtype.Timestamptz
	id int64
}

// step deletes what is old enough of the next messages, up to limit.
func (p *archivePruner) step(ctx context.Context, after archivePlace, limit int) (next archivePlace, err error) {
	sql := archiveNames(p.queue).Replace(sqlfile.Text(pruneArchiveSQL))
	limited, cancel := context.WithTimeout(ctx, 2*pruneTimeout)
	defer cancel()
	err = transact.Run(limited, p.pool, pruneSettings(), func(tx pgx.Tx) error {
		return tx.QueryRow(limited, sql, pgx.QueryExecModeCacheDescribe, after.at, after.id, p.keep.Seconds(), limit).Scan(new(int), new(int), &next.at, &next.id)
	})
	return next, err
}

// passBy returns the place of the message behind after, and an error that says that it stays, and why: cause. If it
// is not found, the place is the same, and so is the error.
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
