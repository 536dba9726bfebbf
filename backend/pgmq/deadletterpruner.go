package pgmq

import (
	"context"
	_ "embed"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/prune_dead_letters.sql
var pruneDeadLettersSQL string

// pruneSteps is how many steps a round through dead letters has at most: it may pass by many that are not to go, and the next round
// goes on behind them.
const pruneSteps = 100

// deadLetterPruner deletes what the consumers of a topic, or of a group of it, have dead-lettered long ago.
type deadLetterPruner struct {
	pool         *pgxpool.Pool
	topic, group string
	keep         time.Duration

	after int64 // where the next round begins
}

func newDeadLetterPruner(pool *pgxpool.Pool, topic, group string, keep time.Duration) *deadLetterPruner {
	return &deadLetterPruner{pool: pool, topic: topic, group: group, keep: keep, after: math.MinInt64}
}

func (p *deadLetterPruner) job() pruneJob {
	return pruneJob{failed: "ezq: the dead letters cannot be pruned", prune: func(ctx context.Context) error {
		err := p.prune(ctx)
		if fault.IsCode(err, "42P01") { // there were no dead letters yet
			return nil
		}
		return fault.Classify("prune dead letters", p.topic+backend.DeadLetterSuffix, err)
	}}
}

// prune goes through the oldest dead letters, up to those that are not old enough.
func (p *deadLetterPruner) prune(ctx context.Context) error {
	queue, err := queuename.Of(p.topic + backend.DeadLetterSuffix)
	if err != nil {
		return nil //nolint:nilerr // a name that is too long has no dead letters
	}
	for range pruneSteps {
		old, err := p.step(ctx, queue)
		if err != nil {
			return err
		}
		if old == 0 {
			p.after = math.MinInt64
			return nil
		}
		if !transact.Wait(ctx, prunePause) {
			return nil
		}
	}
	return nil
}

// step looks at the next dead letters, and returns how many of them are old.
func (p *deadLetterPruner) step(ctx context.Context, queue string) (old int, err error) {
	for _, small := range [...]string{statement.HeadersAreSmall(), statement.IsReadFast("headers")} {
		if old, err = p.delete(ctx, queue, small); !fault.IsCode(err, "57014") { // query_canceled
			break
		}
	}
	return old, err
}

func (p *deadLetterPruner) delete(ctx context.Context, queue, small string) (old int, err error) {
	sql := strings.NewReplacer("{table}", queuename.Table(queue), "{small}", small).Replace(sqlfile.Text(pruneDeadLettersSQL))
	var looked int
	err = transact.Run(ctx, p.pool, pruneSettings(), func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, p.after, p.topic, sqlfile.OrNull(p.group), p.keep.Seconds()).Scan(&looked, &old, &p.after)
	})
	return old, err
}
