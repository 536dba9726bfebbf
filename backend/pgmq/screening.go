package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// A claim reads what it leases. If that fails, or takes long, the message at fault is unknown,
// and the oldest are claimed first, so every claim would fail. The messages are then
// screened: leased without being read, and looked at. Those that can be read are handed over in
// their order; the suspicious ones become suspects, and keep no other waiting.

const (
	// minClaimTimeout is how long a claim may take before its messages are screened. Where it was
	// the server that took long, and no message, it gets twice as long the next time.
	minClaimTimeout = 500 * time.Millisecond
	maxClaimTimeout = operationTimeout - time.Second

	// screenTimeout is how long it is tried to tell those messages apart that are screened together,
	// and as long how to read them.
	screenTimeout = 500 * time.Millisecond

	// screeningPeriod is for how long messages are screened after the last one that was suspicious.
	// PostgreSQL does not stop while it writes one out, which takes seconds for a gigabyte:
	// if such messages were published one at a time, each claim would take that long.
	screeningPeriod = time.Minute

	// readingFor is how much longer than its patience a lock is waited for.
	// PostgreSQL has said by then that there was no time, unless it is writing
	// out a message, or waits for a lock on the table. A claim that leases has
	// all the time there is: it may have been committed.
	readingFor = 2 * time.Second

	// lockedFor is for how long messages are screened after a claim that was given up. Until PostgreSQL
	// notices that, it keeps the rows of the claim locked, and no other claim meets
	// them.
	lockedFor = 4 * operationTimeout

	// maxScreenBatch is how many messages are screened at a time, where most were suspicious.
	maxScreenBatch = 1000
)

// screening is what a store knows about messages that make claims fail.
type screening struct {
	active      bool // the next messages are screened
	timedOut    bool // a claim took too long
	timeout     time.Duration
	batchLimit  int       // how many to sift at a time at least; 0: as many as are asked for
	limited     bool      // it is that many at most
	activeUntil time.Time // until when to go on

	refused refusedRows
}

func (s *screening) claimTimeout() time.Duration { return cmp.Or(s.timeout, minClaimTimeout) }

// recordFailure reports whether a claim failed with err because of what it was to read, as it may have if
// it was reading, or if the client has given up. The next messages are screened then.
func (s *screening) recordFailure(err error, reading bool) bool {
	givenUp := isGivenUp(err)
	if !givenUp && (!reading || !isUnreadable(err) && !isDoubtful(err)) {
		return false
	}
	s.active, s.timedOut = true, s.timedOut || givenUp || isCode(err, "57014")
	if end := time.Now().Add(lockedFor); givenUp && end.After(s.activeUntil) {
		s.activeUntil = end
	}
	return true
}

// isGivenUp reports whether the client has waited for the server long enough. What that was doing, it
// does not know.
func isGivenUp(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// activate is for messages that only a claim can do something about.
func (s *screening) activate() { s.active = true }

// limitFor is how many messages to sift, if limit are asked for.
func (s *screening) limitFor(limit int) int {
	if s.limited {
		return min(limit, s.batchLimit)
	}
	return max(limit, s.batchLimit)
}

// recordResult notes that so many messages have gone through, how many were suspicious, and for how
// many there was no time.
func (s *screening) recordResult(all, suspicious, untried int) {
	switch {
	case suspicious > 0:
		s.timeout, s.activeUntil = minClaimTimeout, time.Now().Add(screeningPeriod)
	case s.timedOut:
		s.timeout = min(2*s.claimTimeout(), maxClaimTimeout)
	}
	s.timedOut, s.active = false, time.Now().Before(s.activeUntil) || s.refused.len() > 0
	switch {
	case untried > 0:
		s.batchLimit, s.limited = max(all/4, 1), true
	case s.limited && all == s.batchLimit && all < maxScreenBatch:
		s.batchLimit = 2 * all
	case 2*suspicious > all:
		s.batchLimit, s.limited = min(4*all, maxScreenBatch), false
	default:
		s.batchLimit, s.limited = 0, false
	}
}

// screen claims messages as claimNew does. It goes on while all of them are suspicious.
func (s *store) screen(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settleResult, err error) {
	s.full = false
	end := time.Now().Add(2 * screenTimeout)
	for {
		batch := newTransaction()
		result := s.settle(batch, settlements)
		batchLimit := s.screening.limitFor(limit)
		var leased []row
		batch.Queue(s.sql().lease, batchLimit, lease.Microseconds(), s.screening.refused.ids()).Query(func(rows pgx.Rows) (err error) {
			leased, err = scanLeasedRows(rows)
			return err
		})
		s.queueNext(batch, &claim)
		err = batch.run(ctx, s.pool)
		if err != nil && result.refusal(s, err) == nil && s.passBy(ctx, err, batchLimit, lease) {
			continue
		}
		settled = cmp.Or(settled, result)
		if err != nil {
			return claim, settled, err
		}
		var more bool
		if claim.Leases, more = s.separate(ctx, leased, limit, lease); more {
			claim.Next = 0
		}
		if len(claim.Leases) > 0 || len(leased) < batchLimit || time.Now().After(end) || ctx.Err() != nil {
			return claim, settled, nil
		}
		settlements = nil
	}
}

func scanLeasedRows(rows pgx.Rows) (leased []row, err error) {
	var r row
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Number, &r.ReadAt, &r.Known}, func() error {
		leased = append(leased, r)
		return nil
	})
	slices.SortFunc(leased, func(a, b row) int { return cmp.Compare(a.ID, b.ID) })
	return leased, err
}

// separate returns up to limit of the messages, as far as they can be read, puts the
// suspicious ones aside, and releases the others, if there are more. Those that there was no time
// for are released, too, with all that comes after the first of them.
func (s *store) separate(ctx context.Context, leased []row, limit int, lease time.Duration) (leases []subscription.Lease, more bool) {
	if len(leased) == 0 {
		s.screening.recordResult(0, 0, 0)
		return nil, false
	}
	good, bad, untried := s.findSuspicious(ctx, leased)
	var surplus []subscription.Token
	for len(good) > limit {
		last := len(good) - 1
		surplus, good = append(surplus, good[last].token()), good[:last]
	}
	all, failed, skipped := s.readTogether(ctx, s.pool, good, screenTimeout, s.maxBytes)
	untried = append(untried, skipped...)
	all.merge(surplusResult(untried), s.maxBytes)
	bad = slices.Concat(bad, all.tooLarge, unreadRows(failed))
	s.screening.recordResult(len(leased), len(bad), len(untried))
	s.examineLater(ctx, bad, lease)
	s.removeForged(ctx, s.pool, all.forged)
	surplus = append(surplus, all.surplus...)
	s.release(ctx, surplus)
	return all.leases, len(surplus) > 0
}

// findSuspicious returns those of the messages that look harmless, those that do not, or that it fails for,
// and those that there was no time for. It writes none of them out.
func (s *store) findSuspicious(ctx context.Context, leased []row) (good []row, bad []unread, untried []row) {
	suspicious := map[int64]bool{}
	failed, untried := bisect(leased, screenTimeout, func(part []row, timeout time.Duration) error {
		batch := newTransactionWithTimeout(timeout)
		found := idSet{}
		batch.Queue(s.sql().suspicious, rowIDs(part), s.harmlessSize()).Query(found.collect)
		err := batch.run(ctx, s.pool)
		for id := range found {
			suspicious[id] = true
		}
		return err
	})
	skipped := map[int64]bool{}
	for _, r := range untried {
		skipped[r.ID] = true
	}
	for _, r := range failed {
		suspicious[r.ID] = true
	}
	untried = slices.DeleteFunc(untried, func(r row) bool { return suspicious[r.ID] })
	for _, r := range leased {
		switch {
		case suspicious[r.ID]:
			bad = append(bad, unread{row: r})
		case !skipped[r.ID]:
			good = append(good, r)
		}
	}
	return good, bad, untried
}

// harmlessSize is how many bytes a message may take for it to be looked at, and to be harmless:
// so few take some milliseconds to look at, whatever they are, and some megabytes written out.
func (s *store) harmlessSize() int { return min(max(s.maxMessageBytes/256, 8192), 16384) }

// readTogether reads leased messages of up to most bytes in all, and returns those that it has
// failed for by themselves, and those for which there was no time.
func (s *store) readTogether(ctx context.Context, db batchSender, leased []row, within time.Duration, maxBytes int64) (all readResult, failed, untried []row) {
	failed, untried = bisect(leased, within, func(part []row, timeout time.Duration) error {
		result, err := s.readLeased(ctx, db, part, timeout)
		all.merge(result, maxBytes)
		return err
	})
	return all, failed, untried
}

// readLeased reads leased messages.
func (s *store) readLeased(ctx context.Context, db batchSender, leased []row, timeout time.Duration) (result readResult, err error) {
	var t tokenColumns
	known := make([]bool, len(leased))
	for i, r := range leased {
		t.add(r.token())
		known[i] = r.Known
	}
	batch := newTransactionWithTimeout(timeout)
	batch.Queue(s.sql().read, t.ids, t.numbers, s.maxMessageBytes, t.times, known).Query(func(rows pgx.Rows) (err error) {
		result, err = s.scanLeases(rows)
		return err
	})
	if err := batch.run(ctx, db); err != nil {
		return readResult{}, err
	}
	return result, nil
}

// bisect tries all of the messages together, and if that fails, each half, in their order. It
// returns those that it has failed for by themselves, and the last ones, for which there was no time
// within about that. A try has two thirds of the time that is left, and a fifth of all at least. It
// goes on in any case until something is known about the first, so that the next time there are
// fewer.
func bisect(all []row, within time.Duration, try func(part []row, timeout time.Duration) error) (failed, untried []row) {
	end := time.Now().Add(within)
	known := false
	var part func([]row)
	part = func(rows []row) {
		switch left, half := time.Until(end), len(rows)/2; {
		case len(rows) == 0:
		case known && left <= 0:
			untried = append(untried, rows...)
		case try(rows, max(left*2/3, within/5)) == nil:
			known = true
		case half == 0:
			failed, known = append(failed, rows[0]), true
		default:
			part(rows[:half])
			part(rows[half:])
		}
	}
	part(all)
	return failed, untried
}

// dueRows returns the rows that a claim would lease first, without those to pass by; and the newest id.
func dueRows(ctx context.Context, db batchSender, sql *statements, limit int, passed []int64) (due []row, newest int64, err error) {
	batch := newTransaction()
	batch.Queue(sql.due, limit, passed).Query(func(rows pgx.Rows) error {
		var r row
		_, err := pgx.ForEachRow(rows, []any{&r.ID, &newest}, func() error {
			due = append(due, r)
			return nil
		})
		return err
	})
	return due, newest, batch.run(ctx, db)
}

// rowsThere returns the rows that there still are.
func rowsThere(ctx context.Context, db batchSender, sql *statements, all []int64) (there []row, err error) {
	found := idSet{}
	batch := newTransaction()
	batch.Queue(sql.there, all).Query(found.collect)
	err = batch.run(ctx, db)
	for id := range found {
		there = append(there, row{ID: id})
	}
	return there, err
}

// tryToLease leases rows, and rolls that back. It returns those that PostgreSQL refuses by themselves, and
// those that it accepts. Of rows that others have locked, and those for which there is no time, it learns nothing.
func tryToLease(ctx context.Context, db batchSender, sql *statements, rows []row, lease time.Duration) (refused []row, accepted idSet) {
	accepted = idSet{}
	var fault error // that is no refusal: nothing more can be learnt now
	refused, _ = bisect(rows, screenTimeout, func(part []row, timeout time.Duration) error {
		if fault != nil {
			return nil
		}
		touched := idSet{}
		batch := newTransactionWithTimeout(timeout)
		batch.Queue(sql.touch, rowIDs(part), lease.Microseconds()).Query(touched.collect)
		batch.Queue(checkSQL)
		batch.Queue("rollback")
		err := db.SendBatch(ctx, &batch.Batch).Close()
		switch {
		case err == nil:
			maps.Copy(accepted, touched)
		case mayBeRetried(err):
			fault, err = err, nil
		}
		return err
	})
	return refused, accepted
}

func unreadRows(rows []row) []unread {
	all := make([]unread, len(rows))
	for i, r := range rows {
		all[i] = unread{row: r}
	}
	return all
}

// surplusResult is what has been read of messages that there was no time for.
func surplusResult(rows []row) (none readResult) {
	for _, r := range rows {
		if len(none.surplus) == 0 || r.ID < none.firstSurplus {
			none.firstSurplus = r.ID
		}
		none.surplus = append(none.surplus, r.token())
	}
	return none
}

func rowIDs(rows []row) []int64 {
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}

// A number of many digits takes a few bytes as it is stored, and thousands of those a few more. To
// look for one is quick: PostgreSQL compares numbers without writing them out. They are made an array
// first, because jsonb_path_query moves all that it has found for each row that it returns: the time
// for 100,000 numbers would grow with their square.
const suspiciousSQL = `
select m.msg_id from {table} m
where m.msg_id = any($1::bigint[]) and case
	when coalesce(pg_column_size(m.message), 0) + coalesce(pg_column_size(m.headers), 0) > $2 then true
	else {long message} or {long headers} end`

// suspecting returns the statement that finds messages which may be large when they are
// read. Its parameters are ids, and how much they may take as they are stored.
func suspecting(sql string) string {
	for _, column := range [...]string{"message", "headers"} {
		sql = strings.ReplaceAll(sql, "{long "+column+"}", fmt.Sprintf(`coalesce(jsonb_path_exists(m.%[1]s, '$.** ? (@.type() == "number" && (@ >= 1e40 || @ <= -1e40))'), false)
		or exists (select from (select jsonb_array_elements(jsonb_path_query_array(m.%[1]s, '$.** ? (@.type() == "number")')) as n offset 0) as m where scale(n::numeric) > 40)`, column))
	}
	return sql
}

// minimumSizeSQL finds how large messages are at least when they are read: the text in them, and
// the digits of their numbers, of which it counts half of those before the point or more. It
// goes no further than to the largest size, which is its second parameter.
const minimumSizeSQL = `
select m.msg_id, greatest({weight message}, {weight headers}) from {table} m
where m.msg_id = any($1::bigint[])`

func withMinimumSize(sql string) string {
	var digits strings.Builder
	digits.WriteString("case")
	for n := 65536; n >= 16; n /= 2 {
		fmt.Fprintf(&digits, " when abs(n::numeric) >= 1e%d then %d", n, n)
	}
	digits.WriteString(" else 1 end + scale(n::numeric)")
	for _, column := range [...]string{"message", "headers"} {
		sql = strings.ReplaceAll(sql, "{weight "+column+"}", fmt.Sprintf(`coalesce((
	select total from (select sum(size) over (rows unbounded preceding) as total from (
		select case jsonb_typeof(n) when 'string' then octet_length(n #>> '{}') else %[2]s end as size
		from (select jsonb_array_elements(jsonb_path_query_array(m.%[1]s, 'strict $.** ? (@.type() == "number" || @.type() == "string")')) as n offset 0) as n) as n) as n
	where total > $2::bigint limit 1), 0)`, column, digits.String()))
	}
	return sql
}

// errOutOfTime is why a message is hidden that could not be looked at before its lease ended.
var errOutOfTime = errors.New("there was no time to read it: too many messages take long")
