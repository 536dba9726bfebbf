package pgmq

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
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
	vouching     string // the table whose owner is trusted with the dead letters too, or ""
	queue        string // of the dead letters
	slow         bool   // the last statement took too long, and the next one reads only rows that are read fast
	trustedUntil time.Time
}

// lettersTrustedFor is for how long a table of dead letters that is trusted is not checked again.
const lettersTrustedFor = 5 * time.Minute

func (p *deadLetterPruner) job() pruneJob {
	walk := &pruneWalk[int64]{table: p, start: math.MinInt64, last: math.MinInt64, steps: pruneSteps}
	return pruneJob{failed: "ezq: the dead letters cannot be pruned", prune: func(ctx context.Context) error {
		return fault.Classify("prune dead letters", p.topic+backend.DeadLetterSuffix, p.prune(ctx, walk))
	}}
}

// prune goes through the oldest dead letters, up to those that are not old enough. Any role that may create tables may
// have made theirs, before there is one.
func (p *deadLetterPruner) prune(ctx context.Context, walk *pruneWalk[int64]) (err error) {
	if p.queue, err = queuename.Of(p.topic + backend.DeadLetterSuffix); err != nil {
		return nil //nolint:nilerr // a name that is too long has no dead letters
	}
	table := queuename.Table(p.queue)
	if there, err := exists(ctx, p.pool, table); !there {
		p.trustedUntil = time.Time{}
		return err
	}
	if now := time.Now(); now.After(p.trustedUntil) {
		if err := catalog.RequireTrusted(ctx, p.pool, []string{table}, p.vouching); err != nil {
			return err
		}
		p.trustedUntil = now.Add(lettersTrustedFor)
	}
	return unlessDropped(ctx, p.pool, table, walk.round(ctx))
}

func (p *deadLetterPruner) step(ctx context.Context, after int64, limit int) (next int64, more bool, err error) {
	next, looked, old, err := p.delete(ctx, after, limit)
	if fault.IsStatementTimeout(err) && !p.slow {
		p.slow = true
		next, looked, old, err = p.delete(ctx, after, limit)
	}
	if err == nil {
		p.slow = false
	}
	return next, old > 0 || limit < pruneLimit && looked == limit, err // of few, none need be old
}

// delete looks at the next dead letters, and returns up to which one, how many they are, and how many of them are old.
func (p *deadLetterPruner) delete(ctx context.Context, after int64, limit int) (next int64, looked, old int, err error) {
	small := statement.HeadersAreSmall()
	if p.slow {
		small = codec.IsReadFast("headers")
	}
	sql := strings.NewReplacer("{table}", queuename.Table(p.queue), "{small}", small).Replace(sqlfile.Text(pruneDeadLettersSQL))
	limited, cancel := context.WithTimeout(ctx, 2*pruneTimeout)
	defer cancel()
	err = transact.Run(limited, p.pool, pruneSettings(), func(tx pgx.Tx) error {
		return tx.QueryRow(limited, sql, pgx.QueryExecModeCacheDescribe, after, p.topic, sqlfile.OrNull(p.group), p.keep.Seconds(), limit).Scan(&looked, &old, &next)
	})
	return next, looked, old, err
}

func (p *deadLetterPruner) passBy(ctx context.Context, after int64, cause error) (next int64, stays error) {
	limited, cancel := context.WithTimeout(ctx, pruneTimeout)
	defer cancel()
	p.slow = false // that was the one
	next, err := transact.Value[int64](limited, p.pool, "select msg_id from "+queuename.Table(p.queue)+" where msg_id > $1 order by msg_id limit 1", after)
	if err != nil {
		return after, cause
	}
	return next, fmt.Errorf("the dead letter %d stays: %w", next, cause)
}
