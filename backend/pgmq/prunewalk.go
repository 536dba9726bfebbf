package pgmq

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

const (
	pruneLimit = 1000 // messages that a step looks at
	pruneLeft  = 20   // messages that do not go, and after which a round ends
)

// pruneTable is what a walk deletes from. P is a place in it: of the last message that was looked at.
type pruneTable[P any] interface {
	// step deletes what is to go of the next messages, up to limit, and returns where it has come to; more is false at
	// the end.
	step(ctx context.Context, after P, limit int) (next P, more bool, err error)

	// passBy returns the place of the message behind after, and an error that says that it stays, and why: cause. If it
	// is not found, the place is the same, and so is the error.
	passBy(ctx context.Context, after P, cause error) (next P, stays error)
}

// pruneWalk goes through what is kept for long enough, from the oldest on. What takes too long together, or is refused, it
// deletes in smaller steps; a message that alone does not go stays, and keeps no others.
type pruneWalk[P any] struct {
	table       pruneTable[P]
	start, last P   // before the first message, and where the next round begins
	steps       int // that a round has at most; 0 does not limit
}

// round goes on to the end, or until too much does not go: the next round goes on behind that.
func (w *pruneWalk[P]) round(ctx context.Context) (stays error) {
	limit, left := pruneLimit, 0
	suspected := 0 // of the next messages, among which is one that does not go
	for steps := w.steps; ; {
		next, more, err := w.table.step(ctx, w.last, limit)
		switch {
		case err == nil && !more:
			w.last = w.start
			return stays
		case err == nil:
			w.last = next
			if suspected -= limit; suspected <= 0 { // before, a larger step would fail again, and may take long
				limit = min(10*limit, pruneLimit)
			}
		case !mayBeOfOneRow(err):
			return err
		case limit > 1:
			suspected, limit = limit, limit/10
		default:
			suspected = 0
			if w.last, err = w.table.passBy(ctx, w.last, err); stays == nil {
				stays = err
			}
			left++
		}
		if steps--; steps == 0 || left == pruneLeft || !transact.Wait(ctx, prunePause) {
			return stays
		}
	}
}

// mayBeOfOneRow reports whether a statement may have failed for one of its rows alone: for what PostgreSQL refuses, or for
// a trigger, which can take long, and give any SQLSTATE.
func mayBeOfOneRow(err error) bool {
	return fault.IsStatementTimeout(err) || !fault.MayBeRetried(err) || fault.IsRaised(err)
}

// unlessDropped returns err, or nil if a round failed because its table was dropped meanwhile. A function of a trigger may
// miss another table.
func unlessDropped(ctx context.Context, pool *pgxpool.Pool, table string, err error) error {
	if !fault.IsCode(err, "42P01") {
		return err
	}
	if there, unknown := exists(ctx, pool, table); there || unknown != nil {
		return err
	}
	return nil
}

// exists reports whether there is a table, which has no message otherwise.
func exists(ctx context.Context, pool *pgxpool.Pool, table string) (bool, error) {
	missing, err := catalog.Missing(ctx, pool, catalog.MissingTablesSQL, table)
	return len(missing) == 0, err
}
