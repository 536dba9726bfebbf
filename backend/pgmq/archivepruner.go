package pgmq

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

//go:embed sql/prune_archive.sql
var pruneArchiveSQL string

const (
	pruneInterval = time.Minute            // between two rounds through the archives
	pruneAtLatest = 10                     // rounds that are left out because the consumer is busy
	prunePause    = 100 * time.Millisecond // between two steps, of 1000 messages at most
	pruneTimeout  = 10 * time.Second       // of one step
)

// archivePruner deletes what was acked long ago from the archives of the queues that a subscriber consumes:
// in small steps, and when their consumers have nothing to do.
type archivePruner struct {
	pool     *pgxpool.Pool
	keep     time.Duration
	interval time.Duration
	logger   *slog.Logger
	cancel   context.CancelFunc
	done     sync.WaitGroup

	mu     sync.Mutex
	queues map[string]*subscription.Counters // by queue
}

// newArchivePruner returns a pruner of no archive. It prunes nothing where keep is 0. Close it.
func newArchivePruner(pool *pgxpool.Pool, keep, interval time.Duration, logger *slog.Logger) *archivePruner {
	ctx, cancel := context.WithCancel(context.Background())
	p := &archivePruner{pool: pool, keep: keep, interval: interval, logger: logger, cancel: cancel, queues: map[string]*subscription.Counters{}}
	if keep > 0 {
		p.done.Go(func() { p.run(ctx) })
	}
	return p
}

// add prunes the archive of queue too.
func (p *archivePruner) add(queue string, counters *subscription.Counters) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues[queue] = counters
}

func (p *archivePruner) close() {
	p.cancel()
	p.done.Wait()
}

// run prunes each archive once in an interval, unless its consumer is busy, until ctx ends.
func (p *archivePruner) run(ctx context.Context) {
	leftOut := map[string]int{}
	for wait(ctx, p.interval) {
		p.mu.Lock()
		queues := maps.Clone(p.queues)
		p.mu.Unlock()
		for queue, counters := range queues {
			if counters.Waiting.Load()+counters.InFlight.Load() > 0 && leftOut[queue] < pruneAtLatest {
				leftOut[queue]++
				continue
			}
			leftOut[queue] = 0
			if err := p.prune(ctx, queue); err != nil && ctx.Err() == nil {
				about := sparse.About{Text: "ezq: the archive cannot be pruned", Topic: queue}
				sparse.Log(ctx, p.logger, slog.LevelWarn, about, "queue", queue, "error", fault.Classify("prune the archive", "", err))
			}
		}
	}
}

// prune goes once through what was archived too long ago.
func (p *archivePruner) prune(ctx context.Context, queue string) error {
	sql := archiveNames(queue).Replace(sqlfile.Text(pruneArchiveSQL))
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

// wait waits for d, and reports whether ctx lives.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
