package pgmq

import (
	"context"
	_ "embed"
	"errors"
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

// prune goes once through what was archived too long ago.
func (p *archivePruner) prune(ctx context.Context) error {
	sql := archiveNames(p.queue).Replace(sqlfile.Text(pruneArchiveSQL))
	after, id := timeOr(time.Time{}, pgtype.NegativeInfinity), int64(math.MinInt64)
	for {
		var looked, deleted int
		limited, cancel := context.WithTimeout(ctx, pruneTimeout)
		err := transact.Run(limited, p.pool, "lock_timeout = '1s'", func(tx pgx.Tx) error {
			return tx.QueryRow(limited, sql, pgx.QueryExecModeCacheDescribe, after, id, p.keep.Seconds()).Scan(&looked, &deleted, &after, &id)
		})
		cancel()
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return err
		case !wait(ctx, prunePause):
			return nil
		}
	}
}
