package pgmq

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

const (
	pruneInterval = time.Minute            // between two rounds
	pruneAtLatest = 10                     // rounds that are left out because the consumer is busy
	prunePause    = 100 * time.Millisecond // between two steps, of 1000 messages at most
	pruneTimeout  = 10 * time.Second       // of one step
)

// pruneSettings are those of the transaction of a step.
func pruneSettings() string {
	return fmt.Sprintf("lock_timeout = '1s'; set local statement_timeout = %d", pruneTimeout.Milliseconds())
}

// pruner deletes what the queues that a subscriber consumes have kept for long enough: in small steps, and when their
// consumers have nothing to do.
type pruner struct {
	pool     *pgxpool.Pool // that of the subscriptions
	config   SubscriberConfig
	interval time.Duration
	logger   *slog.Logger
	cancel   context.CancelFunc
	done     sync.WaitGroup

	mu     sync.Mutex
	queues map[string]pruned
}

// pruned is what to prune of a queue.
type pruned struct {
	counters *subscription.Counters // of its consumer
	jobs     []pruneJob
}

// pruneJob deletes what is kept for long enough, until that is done or ctx ends.
type pruneJob struct {
	failed string // the log record of its error
	prune  func(ctx context.Context) error
}

// newPruner returns a pruner of no queue. Close it.
func newPruner(pool *pgxpool.Pool, config SubscriberConfig, interval time.Duration, logger *slog.Logger) *pruner {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pruner{pool: pool, config: config, interval: interval, logger: logger, cancel: cancel, queues: map[string]pruned{}}
	if config.ArchiveFor > 0 || config.DeadLettersFor > 0 {
		p.done.Go(func() { p.run(ctx) })
	}
	return p
}

// add prunes what is kept of the queue of a topic too.
func (p *pruner) add(topic, queue string, counters *subscription.Counters) {
	var jobs []pruneJob
	if keep := p.config.ArchiveFor; keep > 0 {
		archive := &archivePruner{pool: p.pool, queue: queue, keep: keep}
		jobs = append(jobs, archive.job())
	}
	if keep := p.config.DeadLettersFor; keep > 0 {
		letters := &deadLetterPruner{
			pool: p.pool, topic: topic, group: p.config.Group, keep: keep, vouching: catalog.VouchingTable(p.config.NoCreate, queue),
		}
		jobs = append(jobs, letters.job())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues[queue] = pruned{counters, jobs}
}

func (p *pruner) close() {
	p.cancel()
	p.done.Wait()
}

// run does the jobs of each queue once in an interval, unless its consumer is busy, until ctx ends.
func (p *pruner) run(ctx context.Context) {
	leftOut := map[string]int{}
	for transact.Wait(ctx, p.interval) {
		p.mu.Lock()
		queues := maps.Clone(p.queues)
		p.mu.Unlock()
		for queue, pruned := range queues {
			if pruned.counters.Prefetched.Load()+pruned.counters.InFlight.Load() > 0 && leftOut[queue] < pruneAtLatest {
				leftOut[queue]++
				continue
			}
			leftOut[queue] = 0
			for _, job := range pruned.jobs {
				if err := job.prune(ctx); err != nil && ctx.Err() == nil {
					sparse.Log(ctx, p.logger, slog.LevelWarn, sparse.About{Text: job.failed, Topic: queue}, "queue", queue, "error", err)
				}
			}
		}
	}
}
