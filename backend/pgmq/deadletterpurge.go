package pgmq

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/purge_dead_letters.sql
var purgeDeadLettersSQL string

// deadLetterPurge is one call of PurgeDeadLetters.
type deadLetterPurge struct {
	look    *deadLetterLook
	origins *origins

	done   backend.Purged
	strays int // messages that stay
	kept   int // dead letters that PostgreSQL was told to delete, and did not
}

// run deletes the dead letters that are chosen, and says which stay.
func (p *deadLetterPurge) run(ctx context.Context) (backend.Purged, error) {
	table := queuename.Table(p.look.queue)
	err := halted(p.deleteOldest(ctx), p.done.Removed, table)
	if err == nil && p.strays > 0 {
		err = &Error{
			Kind: ErrStrays, Cause: fmt.Errorf("%d messages stay: they are not dead letters of %s", p.strays, p.origins.topicNames()),
			Remedy: "DeadLetters shows what they say; name the topics whose dead letters are to be deleted, or delete all that is there with PurgeQueue",
		}
	}
	return p.done, cmp.Or(err, keptError(p.kept, table), p.look.leftOut(nil, 0))
}

// deleteOldest goes through the dead letters once, up to the last that was there at the start.
func (p *deadLetterPurge) deleteOldest(ctx context.Context) error {
	last, err := transact.Value[int64](ctx, p.look.pool, fmt.Sprintf(lastSQL, queuename.Table(p.look.queue)))
	if err != nil {
		return err
	}
	p.look.texts = []string{headerSQL(backend.DeadLetterTopic)}
	for after, limit := p.look.after(), cmp.Or(p.look.chosen.Limit, math.MaxInt); p.done.Removed < limit; {
		found, err := p.look.next(ctx, after, last, lookBatch)
		if err != nil || len(found) == 0 {
			return err
		}
		var doomed []int64
		for _, one := range found {
			if p.done.Removed+len(doomed) == limit {
				break
			}
			after = one.id
			switch {
			case !one.isChosen():
			case slices.Contains(p.origins.topics, one.texts[0]):
				doomed = append(doomed, one.id)
			default:
				p.strays++
			}
		}
		if err := p.delete(ctx, doomed); err != nil {
			return err
		}
	}
	return nil
}

// delete deletes those dead letters that no other session has locked.
func (p *deadLetterPurge) delete(ctx context.Context, doomed []int64) error {
	if len(doomed) == 0 {
		return nil
	}
	sql := strings.NewReplacer("{table}", queuename.Table(p.look.queue), "{matches}", p.look.matches()).Replace(sqlfile.Text(purgeDeadLettersSQL))
	var locked, removed, there int
	err := transact.Run(ctx, p.look.pool, "", func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, p.look.arguments(doomed)...).Scan(&locked, &removed, &there)
	})
	if err == nil {
		p.done.Removed, p.done.Busy, p.kept = p.done.Removed+removed, p.done.Busy+there-locked, p.kept+locked-removed
	}
	return fault.Changed(err, removed)
}
