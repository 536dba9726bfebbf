package lease

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

// A trigger or a constraint can refuse to extend the lease of one message, or take a minute for it. That
// keeps back neither the messages that are examined with it nor those of another queue, which
// are examined in turn with them.

// extension is what has become of leases that were to be extended together.
type extension struct {
	extended idSet
	failed   []Row // by themselves: PostgreSQL refuses it, or takes too long
	untried  []Row
	refusal  error // of the first that has failed
	passing  error // what has nothing to do with the messages: nothing more could be learnt
}

// extendEach extends leases, together if it can, within about a second.
func (s settler) extendEach(ctx context.Context, db *pgxpool.Pool, rows []Row, lease time.Duration, extended func(part []Row)) (result extension) {
	result.extended = idSet{}
	var passed []Row
	failed, untried := bisect(rows, examineTimeout, func(part []Row, timeout time.Duration) error {
		if result.passing != nil {
			passed = append(passed, part...)
			return nil
		}
		err := s.extendWithin(ctx, db, part, lease, timeout, result.extended)
		switch {
		case err == nil:
			extended(part)
		case !fault.IsServerError(err):
			result.passing, err = err, nil
			passed = append(passed, part...)
		case len(part) == 1:
			result.refusal = fault.FirstError(result.refusal, err)
		}
		return err
	})
	result.failed, result.untried = failed, append(untried, passed...)
	return result
}

func (s settler) extendWithin(ctx context.Context, db *pgxpool.Pool, rows []Row, lease, timeout time.Duration, found idSet) error {
	var columns tokenColumns
	for _, r := range rows {
		columns.add(r.token())
	}
	batch := transact.NewWithTimeout(timeout)
	batch.Queue(s.queue.sql().Extend, columns.ids, columns.numbers, columns.times, lease.Microseconds()).Query(found.collect)
	return batch.Run(ctx, db)
}

// renewed renews leases, and returns what was not taken away. What cannot be renewed by itself comes back when
// its lease ends.
func (e *examination) renewed(ctx context.Context, db *pgxpool.Pool, some []suspect) (still []suspect) {
	if len(some) == 0 {
		return nil
	}
	from, until := suspectsByID(some), time.Now().Add(some[0].lease)
	result := e.settler.extendEach(ctx, db, suspectRows(some), some[0].lease, func([]Row) {})
	for _, u := range some {
		if result.extended[u.row.ID] {
			u.until = until
			still = append(still, u)
		}
	}
	for _, r := range result.untried {
		if u := from[r.ID]; time.Now().Before(u.until) {
			still = append(still, u)
		}
	}
	e.logRefusedExtension(ctx, result, "comes back when its lease ends")
	return still
}

// makeReady renews the leases of messages that could be read, for the next claim to take them. If it
// cannot, they wait once more. One whose lease alone cannot be renewed is handed over with what is left of that, if it is
// more than half.
func (e *examination) makeReady(ctx context.Context, db *pgxpool.Pool, leases []subscription.Lease, from map[int64]suspect, lease time.Duration) {
	if len(leases) == 0 {
		return // another consumer has taken it
	}
	byID, rows := map[int64]subscription.Lease{}, make([]Row, len(leases))
	for i, l := range leases {
		byID[l.ID], rows[i] = l, from[l.ID].row
	}
	handOver := func(part []Row) {
		ready := make([]examined, len(part))
		for i, r := range part {
			ready[i] = examined{Lease: byID[r.ID], until: time.Now().Add(lease / 4)}
		}
		e.suspects.addReady(ready, false)
		e.queue.wakeups.Signal(e.queue.name)
	}
	result := e.settler.extendEach(ctx, db, rows, lease, handOver)
	for _, r := range result.failed {
		if time.Until(from[r.ID].until) > lease/2 {
			handOver([]Row{r})
		}
	}
	e.logRefusedExtension(ctx, result, "has only what is left of it")
	for _, r := range result.untried {
		e.suspects.requeue(from[r.ID])
	}
	if result.passing != nil {
		await(ctx, nil, unreachablePause)
	}
}

func (e *examination) logRefusedExtension(ctx context.Context, result extension, outcome string) {
	if len(result.failed) == 0 {
		return
	}
	about := sparse.About{Text: "ezq: a message that is examined cannot have its lease extended, and " + outcome, Topic: e.queue.topic}
	sparse.Log(ctx, e.queue.logger, slog.LevelError, about, "topic", e.queue.topic, "queue", e.queue.name,
		"msg_id", result.failed[0].ID, "messages", len(result.failed), "error", e.queue.classify("extend", result.refusal))
}
