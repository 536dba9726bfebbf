package lease

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

// writer stores what becomes of the leased messages of a queue, and extends their leases.
type writer struct{ queue *queue }

// settle adds the statements for settlements to batch.
func (w writer) settle(batch *transact.Batch, settlements []subscription.Settlement) *settleResult {
	sql := w.queue.sql()
	result := &settleResult{found: make(idSet, len(settlements))}
	var acks tokenColumns
	var nacks nackColumns
	for _, settlement := range settlements {
		if settlement.Action == subscription.Ack {
			acks.add(settlement.Token)
		} else {
			nacks.add(settlement, w.queue.encoding)
		}
	}
	if len(acks.ids) > 0 {
		batch.Queue(sql.Ack, acks.ids, acks.numbers, acks.times).Query(result.collect(&result.ackPending))
	}
	if len(nacks.ids) > 0 {
		batch.Queue(sql.Nack, nacks.ids, nacks.numbers, nacks.times, nacks.delays, nacks.headers, nacks.uncounts).Query(result.collect(&result.nackPending))
	}
	if len(settlements) > 0 {
		result.checkPending = true
		batch.Queue(transact.CheckSQL).Exec(func(pgconn.CommandTag) error {
			result.checkPending = false
			return nil
		})
	}
	return result
}

// run stores what becomes of messages, and returns those whose outcome is not stored. The messages
// of a queue that was dropped are gone.
func (w writer) run(ctx context.Context, settlements []subscription.Settlement) (subscription.Missed, error) {
	batch := transact.New()
	result := w.settle(batch, settlements)
	err := batch.Run(ctx, w.queue.pool)
	if w.queue.isDropped(ctx, err) {
		return subscription.Missed{Gone: tokensOf(settlements)}, nil
	}
	if err != nil {
		return subscription.Missed{}, cmp.Or(result.refusal(w.queue, err), w.queue.classify("settle", err))
	}
	return w.findMissed(ctx, tokensOf(settlements), result.found), nil
}

// findMissed returns the tokens of all that were not found, and why they were not. It has to
// look again: the first statement passes by what is locked, and cannot tell a message
// that another consumer has from one that was deleted beside it.
//
// If the second look fails, they count as locked: what may have been is tried again.
func (w writer) findMissed(ctx context.Context, all []subscription.Token, found idSet) (missed subscription.Missed) {
	var missing tokenColumns
	for _, token := range all {
		if !found[token.ID] {
			missing.add(token)
		}
	}
	if len(missing.ids) == 0 {
		return missed
	}
	valid := make(map[int64]bool, len(missing.ids)) // of those that are there, whether under their tokens
	var id int64
	var same bool
	batch := transact.New()
	batch.Queue(w.queue.sql().CheckTokens, missing.ids, missing.numbers, missing.times).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&id, &same}, func() error {
			valid[id] = same
			return nil
		})
		return err
	})
	err := batch.Run(ctx, w.queue.pool)
	for _, token := range all {
		same, there := valid[token.ID]
		switch {
		case found[token.ID]:
		case err != nil || same:
			missed.Busy = append(missed.Busy, token)
		case there:
			missed.Lost = append(missed.Lost, token)
		default:
			missed.Gone = append(missed.Gone, token)
		}
	}
	return missed
}

// release releases what was leased and is not kept.
func (w writer) release(ctx context.Context, surplus []subscription.Token) {
	released := make([]subscription.Settlement, len(surplus))
	for i, token := range surplus {
		released[i] = subscription.Settlement{Token: token, Action: subscription.Release}
	}
	if failed, err := w.storeReleases(ctx, w.queue.pool, released); len(failed) > 0 {
		about := sparse.About{Text: "ezq: messages that there is no room for could not be released, and come back when their leases end", Topic: w.queue.topic}
		sparse.Log(ctx, w.queue.logger, slog.LevelWarn, about, "topic", w.queue.topic, "queue", w.queue.name, "messages", len(failed),
			"msg_id", failed[0].ID, "error", w.queue.classify("settle", err))
	}
}

// storeReleases releases messages, and returns those that it has failed for.
func (w writer) storeReleases(ctx context.Context, db transact.Sender, released []subscription.Settlement) ([]subscription.Settlement, error) {
	return storeApart(released, func(part []subscription.Settlement, timeout time.Duration) error {
		batch := transact.NewWithTimeout(timeout)
		w.settle(batch, part)
		return batch.Run(ctx, db)
	})
}

// extend extends leases, and returns those that are lost. The messages of a queue that was dropped are
// gone.
func (w writer) extend(ctx context.Context, leases []subscription.Token, lease time.Duration) (subscription.Missed, error) {
	extended := make(idSet, len(leases))
	var now time.Time
	batch := transact.New()
	batch.Queue("select pg_catalog.clock_timestamp()").QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
	w.queueExtension(batch, tokenColumnsOf(leases), lease, extended)
	err := batch.Run(ctx, w.queue.pool)
	if w.queue.isDropped(ctx, err) {
		return subscription.Missed{Gone: leases}, nil
	}
	if fault.IsServerError(err) {
		return subscription.Missed{}, &subscription.Refusal{Cause: w.queue.classify("extend", err)}
	}
	if err != nil {
		return subscription.Missed{}, w.queue.classify("extend", err)
	}
	missed := w.findMissed(ctx, leases, extended)
	missed.Now = now
	return missed, nil
}

// extendEach extends leases, together if it can, within about a second. It calls extended with each part that it has
// extended.
func (w writer) extendEach(ctx context.Context, db *pgxpool.Pool, rows []Row, lease time.Duration, extended func(part []Row)) (result extension) {
	result.extended = idSet{}
	result.failed, result.untried, result.unreachable = bisectReachable(rows, examineTimeout, func(part []Row, timeout time.Duration) error {
		var columns tokenColumns
		for _, r := range part {
			columns.add(r.token())
		}
		batch := transact.NewWithTimeout(timeout)
		w.queueExtension(batch, columns, lease, result.extended)
		err := batch.Run(ctx, db)
		switch {
		case err == nil:
			extended(part)
		case fault.IsServerError(err) && len(part) == 1:
			result.refusal = cmp.Or(result.refusal, err)
		}
		return err
	})
	return result
}

// queueExtension adds the statement that extends leases to batch. It adds those that it has extended to found.
func (w writer) queueExtension(batch *transact.Batch, columns tokenColumns, lease time.Duration, found idSet) {
	batch.Queue(w.queue.sql().Extend, columns.ids, columns.numbers, columns.times, lease.Microseconds()).Query(found.collect)
}

func tokensOf(settlements []subscription.Settlement) []subscription.Token {
	tokens := make([]subscription.Token, len(settlements))
	for i, settlement := range settlements {
		tokens[i] = settlement.Token
	}
	return tokens
}
