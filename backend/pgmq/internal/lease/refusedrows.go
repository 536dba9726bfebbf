package lease

import (
	"cmp"
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

// A CHECK that is added as NOT VALID, a trigger or a policy can refuse each UPDATE of a row that is there
// already, keep it as it is, or take long. A claim is an UPDATE of many rows, and has the oldest first: that row
// would stop the queue. A claim that fails looks for it with a [trial], and passes it by from then on. It stays as
// it is: nothing of it can be changed, and only its owner knows whether it may go.

// refusedRows is the rows that PostgreSQL does not lease.
type refusedRows struct {
	tried map[int64]time.Time // when each was tried last
	since time.Time           // when the first was found
	next  time.Time           // when to try them again

	unsure     []refusal // by searches that had accepted none when their time was over: the next one goes on behind them
	unblamed   error     // why no row was accepted by the last search; nil if one was
	futile     time.Time // since when searches have found nothing
	nextSearch time.Time // no search before that
	leased     time.Time // when a claim has brought messages
}

const (
	// maxRefusedRows is how many rows are passed by. Each claim reads past them.
	maxRefusedRows = 1000

	// fewRefusedRows is how many rows can be to blame where no other row shows now that it is not the table.
	fewRefusedRows = 10

	// recently is how long a claim that has brought messages shows that.
	recently = 10 * time.Second

	// searchTimeout is for how long rows are tried while none is accepted.
	searchTimeout = 2 * time.Second
)

func (r *refusedRows) len() int { return len(r.tried) }

// ids returns what to pass by. It is not nil, which would be NULL.
func (r *refusedRows) ids() []int64 {
	return slices.AppendSeq(make([]int64, 0, len(r.tried)), maps.Keys(r.tried))
}

// passBy has rows passed by that were found now, as far as there is room for them, and returns how many.
func (r *refusedRows) passBy(ctx context.Context, q *queue, found []refusal) int {
	found = found[:min(len(found), maxRefusedRows-r.len())]
	now := time.Now()
	if len(r.tried) == 0 && len(found) > 0 {
		r.tried, r.since, r.next = map[int64]time.Time{}, now, now.Add(fault.RetryDelay(now))
	}
	for _, one := range found {
		r.tried[one.id] = now
	}
	report(ctx, q, found)
	return len(found)
}

// search looks for rows that PostgreSQL does not lease among those that a claim of up to width messages meets.
// Claims pass them by from then on. If it accepts none at all, no row is to blame, unless they are few. If its time
// was over before it had tried all, the next search goes on where it has ended. It returns how many it has found,
// how many others were accepted, and whether none is left to be tried.
func (r *refusedRows) search(ctx context.Context, t trial, width int) (found, accepted int, all bool) {
	if time.Now().Before(r.nextSearch) || r.len() >= maxRefusedRows {
		return 0, 0, false
	}
	r.unblamed = nil
	tried := r.ids()
	for _, one := range r.unsure {
		tried = append(tried, one.id)
	}
	due, newest, err := dueRows(ctx, t.queue.pool, t.queue.sql(), width+max(maxRefusedRows-len(tried), 0), tried)
	if err != nil {
		return 0, 0, false
	}
	unsure := r.unsure
	r.unsure = nil
	if len(due) == 0 {
		return 0, 0, false
	}
	// A message published after a constraint was added fulfils it; and PostgreSQL updates no message at all, unless it
	// refuses the statement.
	sample, _, _ := t.run(ctx, []int64{newest, newest + 1}, 2, t.timeout)
	if slices.ContainsFunc(sample.refused, func(one refusal) bool { return one.id == newest+1 }) {
		r.noteFutile(nil)
		return 0, 0, false
	}
	known, all, err := t.run(ctx, due, width, searchTimeout)
	progress := len(known.refused)
	known.refused = slices.Concat(unsure, known.refused)
	if len(sample.accepted)+len(known.accepted) == 0 && (!all || !r.areFew(known.refused)) {
		r.noteFutile(known.refused)
		if err == nil && !all && r.len()+len(known.refused) < maxRefusedRows {
			r.goOn(known.refused, progress)
		}
		return 0, 0, all
	}
	return r.passBy(ctx, t.queue, r.certain(ctx, t, known.refused)), len(known.accepted), all
}

// areFew reports whether the rows are to blame that were refused, although no other was accepted: they
// are few, and others were leased a moment ago; or they are few with those that are passed by, and the server is not
// in trouble.
func (r *refusedRows) areFew(found []refusal) bool {
	if len(found) <= fewRefusedRows && time.Since(r.leased) < recently {
		return true
	}
	return r.len()+len(found) <= fewRefusedRows && !slices.ContainsFunc(found, func(one refusal) bool { return one.doubtful })
}

// passByUnchanged has rows passed by that PostgreSQL has not leased, without an error.
func (r *refusedRows) passByUnchanged(ctx context.Context, t trial, ids []int64) {
	var found []refusal
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		if _, passed := r.tried[id]; !passed {
			found = append(found, refusal{id: id, cause: t.keptError()})
		}
	}
	r.passBy(ctx, t.queue, found)
}

// certain returns the refusals without those of rows that are accepted, or locked, when they are tried again. A code
// that tells of the state of the server may have told of that. A row that was slow has had its time.
func (r *refusedRows) certain(ctx context.Context, t trial, found []refusal) []refusal {
	var doubtful []int64
	for _, one := range found {
		if one.doubtful && !one.slow {
			doubtful = append(doubtful, one.id)
		}
	}
	if len(doubtful) == 0 {
		return found
	}
	again, _, _ := t.run(ctx, doubtful, len(doubtful), searchTimeout)
	return slices.DeleteFunc(found, func(one refusal) bool {
		return one.doubtful && !one.slow && !slices.ContainsFunc(again.refused, func(same refusal) bool { return same.id == one.id })
	})
}

// goOn has the next search begin behind those that were refused, so many of them by the last one: soon, if that has
// got along. What was slow is then tried once more: it may have been the server.
func (r *refusedRows) goOn(found []refusal, progress int) {
	for i := range found {
		found[i].slow = false
	}
	r.unsure = found
	if now := time.Now(); progress >= firstTrials {
		r.nextSearch = now.Add(fault.RetryDelay(now))
	}
}

// noteFutile notes that no row was accepted. As long as that is so, there is a search once a minute at last, unless they get along.
func (r *refusedRows) noteFutile(found []refusal) {
	now := time.Now()
	if r.futile.IsZero() {
		r.futile = now
	}
	r.nextSearch = now.Add(fault.RetryDelay(r.futile))
	if len(found) > 0 {
		r.unblamed = found[0].cause
	}
}

// claimed notes that a claim has brought messages: the table is all right.
func (r *refusedRows) claimed() {
	r.unsure, r.unblamed, r.futile, r.nextSearch, r.leased = nil, nil, time.Time{}, time.Time{}, time.Now()
}

func report(ctx context.Context, q *queue, found []refusal) {
	about := sparse.About{Text: "ezq: PostgreSQL refuses to lease a message, which stays in its queue and is passed by; it is tried again", Topic: q.topic}
	for _, one := range found {
		if q.quarantined != nil {
			q.quarantined.Add(1)
		}
		sparse.Log(ctx, q.logger, slog.LevelError, about, "topic", q.topic, "queue", q.name, "msg_id", one.id, "error", one.cause)
	}
}

// retry tries the rows again that claims pass by, if it is time. Those that can be leased, or are not
// there any more, are passed by no longer. If there is no time for all, the others come soon.
func (r *refusedRows) retry(ctx context.Context, t trial) {
	if r.len() == 0 || time.Now().Before(r.next) {
		return
	}
	r.next = time.Now().Add(fault.RetryDelay(r.since))
	still, err := existingRows(ctx, t.queue.pool, t.queue.sql(), r.ids())
	if err != nil {
		return
	}
	maps.DeleteFunc(r.tried, func(id int64, _ time.Time) bool { return !still[id] })
	oldest := slices.SortedFunc(maps.Keys(r.tried), func(a, b int64) int { return cmp.Or(r.tried[a].Compare(r.tried[b]), cmp.Compare(a, b)) })
	known, all, _ := t.run(ctx, oldest, len(oldest), t.timeout)
	for _, one := range known.refused {
		r.tried[one.id] = time.Now()
	}
	for _, id := range known.accepted {
		delete(r.tried, id)
	}
	if !all {
		r.next = time.Now().Add(min(fault.RetryDelay(r.since), OperationTimeout))
	}
}

// dueRows returns the rows that a claim would lease first, without those to pass by; and the newest id.
func dueRows(ctx context.Context, db transact.Sender, sql *statement.Set, limit int, passed []int64) (due []int64, newest int64, err error) {
	batch := transact.New()
	batch.Queue(sql.Due, limit, passed).Query(func(rows pgx.Rows) error {
		var id int64
		_, err := pgx.ForEachRow(rows, []any{&id, &newest}, func() error {
			due = append(due, id)
			return nil
		})
		return err
	})
	return due, newest, batch.Run(ctx, db)
}

// existingRows returns the rows that there still are.
func existingRows(ctx context.Context, db transact.Sender, sql *statement.Set, all []int64) (there idSet, err error) {
	there = idSet{}
	batch := transact.New()
	batch.Queue(sql.Existing, all).Query(there.collect)
	return there, batch.Run(ctx, db)
}
