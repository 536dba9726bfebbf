package lease

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

// A CHECK that is added as NOT VALID, or a trigger, can refuse each UPDATE of a row that is there
// already. A claim is an UPDATE of many rows, and has the oldest first: that row would stop the queue.
// A claim that is refused looks for it by halves, in transactions that are rolled back, and passes it by
// from then on. It stays as it is: nothing of it can be changed, and only its owner knows whether it may go.

// refusedRows is the rows that PostgreSQL refuses to lease.
type refusedRows struct {
	rows  map[int64]bool
	since time.Time // when the first was found
	next  time.Time // when to try them again
}

// maxRefusedRows is how many rows are passed by. Each claim reads past them.
const maxRefusedRows = 1000

func (r *refusedRows) len() int { return len(r.rows) }

// ids returns what to pass by. It is not nil, which would be NULL.
func (r *refusedRows) ids() []int64 {
	return slices.AppendSeq(make([]int64, 0, len(r.rows)), maps.Keys(r.rows))
}

// add adds rows that were found now.
func (r *refusedRows) add(found []int64) {
	if len(r.rows) == 0 {
		r.since = time.Now()
	}
	r.set(append(found, r.ids()...))
}

// set leaves those rows, which are tried again after some time.
func (r *refusedRows) set(rows []int64) {
	r.rows = map[int64]bool{}
	for _, id := range rows {
		r.rows[id] = true
	}
	r.next = time.Now().Add(fault.Pause(r.since))
}

// passBy finds the rows for which PostgreSQL has refused a claim of up to width messages with cause, and
// reports whether the next claim passes them by. If it refuses all rows, none of them is to blame.
func (r *refusedRows) passBy(ctx context.Context, q *queue, cause error, width int, lease time.Duration) bool {
	if fault.MayBeRetried(cause) || ctx.Err() != nil {
		return false
	}
	due, newest, err := dueRows(ctx, q.pool, q.sql(), min(width+100, maxRefusedRows-r.len()), r.ids())
	if err != nil || len(due) == 0 {
		return false
	}
	// Messages published after the constraint was added fulfil it.
	_, fulfils := tryToLease(ctx, q.pool, q.sql(), []Row{{ID: newest}}, lease)
	found, accepted := tryToLease(ctx, q.pool, q.sql(), due, lease)
	if len(found) == 0 || len(fulfils)+len(accepted) == 0 {
		return false
	}
	r.add(rowIDs(found))
	for _, one := range found {
		if q.quarantined != nil {
			q.quarantined.Add(1)
		}
		about := sparse.About{Text: "ezq: PostgreSQL refuses to lease a message, which stays in its queue and is passed by; it is tried again", Topic: q.topic}
		sparse.Log(ctx, q.logger, slog.LevelError, about, "topic", q.topic, "queue", q.name, "msg_id", one.ID, "error", q.classify("fetch", cause))
	}
	return true
}

// retry tries the rows again that claims pass by, if it is time. Those that can be leased, or are not
// there any more, are passed by no longer.
func (r *refusedRows) retry(ctx context.Context, q *queue, lease time.Duration) {
	if r.len() == 0 || time.Now().Before(r.next) {
		return
	}
	still := r.ids()
	if there, err := rowsThere(ctx, q.pool, q.sql(), still); err == nil {
		_, accepted := tryToLease(ctx, q.pool, q.sql(), there, lease)
		still = rowIDs(slices.DeleteFunc(there, func(one Row) bool { return accepted[one.ID] }))
	}
	r.set(still)
}

// dueRows returns the rows that a claim would lease first, without those to pass by; and the newest id.
func dueRows(ctx context.Context, db transact.Sender, sql *statement.Set, limit int, passed []int64) (due []Row, newest int64, err error) {
	batch := transact.New()
	batch.Queue(sql.Due, limit, passed).Query(func(rows pgx.Rows) error {
		var r Row
		_, err := pgx.ForEachRow(rows, []any{&r.ID, &newest}, func() error {
			due = append(due, r)
			return nil
		})
		return err
	})
	return due, newest, batch.Run(ctx, db)
}

// rowsThere returns the rows that there still are.
func rowsThere(ctx context.Context, db transact.Sender, sql *statement.Set, all []int64) (there []Row, err error) {
	found := idSet{}
	batch := transact.New()
	batch.Queue(sql.There, all).Query(found.collect)
	err = batch.Run(ctx, db)
	for id := range found {
		there = append(there, Row{ID: id})
	}
	return there, err
}

// tryToLease leases rows, and rolls that back. It returns those that PostgreSQL refuses by themselves, and
// those that it accepts. Of rows that others have locked, and those for which there is no time, it learns nothing.
func tryToLease(ctx context.Context, db transact.Sender, sql *statement.Set, rows []Row, lease time.Duration) (refused []Row, accepted idSet) {
	accepted = idSet{}
	var passing error // that is no refusal: nothing more can be learnt now
	refused, _ = bisect(rows, screenTimeout, func(part []Row, timeout time.Duration) error {
		if passing != nil {
			return nil
		}
		touched := idSet{}
		batch := transact.NewWithTimeout(timeout)
		batch.Queue(sql.Touch, rowIDs(part), lease.Microseconds()).Query(touched.collect)
		batch.Queue(transact.CheckSQL)
		batch.Queue("rollback")
		err := db.SendBatch(ctx, &batch.Batch).Close()
		switch {
		case err == nil:
			maps.Copy(accepted, touched)
		case fault.MayBeRetried(err):
			passing, err = err, nil
		}
		return err
	})
	return refused, accepted
}
