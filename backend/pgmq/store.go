package pgmq

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/sparse"
)

// store is one queue as the subscription engine sees it.
type store struct {
	topic           string // for errors
	queue           string
	current         atomic.Pointer[statements]
	pool            *pgxpool.Pool
	claimSlots      chan struct{} // has room for one claim less than pool has connections
	lockSlots       chan struct{} // and for one lock less than that
	wakeups         *wakeups
	loadStatements  func(ctx context.Context) (*statements, error) // as the queue is now
	group           string
	gone            error // what it means that there is no queue
	deadLetterTable deadLetterTableFunc
	maxMessageBytes int   // of the size of a message
	maxBytes        int64 // bytes that one claim keeps
	encoding        encoding
	logger          *slog.Logger
	suspects        *suspects

	quarantined *atomic.Int64 // nil if it is not asked for

	bindingPause time.Duration // between two looks whether the group of an idle queue is bound

	// Of the one goroutine that claims:
	changed   <-chan struct{}
	signalled bool // since the last claim
	idle      bool // the last claim found nothing
	full      bool // the last claim found as many messages as it asked for
	stale     bool // the queue was dropped, and may be another one now; or its group was unbound
	screening screening
	nextLook  time.Time // when to look next whether the group is bound

	unleasable atomic.Bool // a lock transaction could not lease what it had locked
}

var _ subscription.Store = (*store)(nil)

// sql is how to speak to the queue.
func (s *store) sql() *statements { return s.current.Load() }

// refresh is for a queue that was dropped and created anew, perhaps as another kind.
func (s *store) refresh(ctx context.Context) error {
	if !s.stale {
		return nil
	}
	sql, err := s.loadStatements(ctx)
	if err != nil {
		return err
	}
	s.current.Store(sql)
	s.stale, s.idle, s.full = false, false, false
	s.screening.refused = refusedRows{}
	return nil
}

// Changed implements [subscription.Store].
func (s *store) Changed() <-chan struct{} {
	select {
	case <-s.changed:
		s.signalled = true
	default:
	}
	s.changed = s.wakeups.next(s.queue)
	return s.changed
}

// Claim implements [subscription.Store] in one round trip and one transaction.
// The settlements come first: a claim that skips locked rows can lock others in
// passing, and a settlement after it could wait for a transaction that waits for
// this one.
func (s *store) Claim(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	select {
	case s.claimSlots <- struct{}{}:
		defer func() { <-s.claimSlots }()
	case <-ctx.Done():
		return subscription.Claim{}, ctx.Err()
	}
	claim, err := s.claimIfDue(ctx, settlements, limit, lease)
	return claim, s.claimError(ctx, err)
}

// claimError returns err as an [*Error], which may be logged, or the reason for it if that is
// that there is no queue.
func (s *store) claimError(ctx context.Context, err error) error {
	if _, refused := errors.AsType[*subscription.Refusal](err); refused {
		return err
	}
	if s.isDropped(ctx, err) {
		s.stale = true
		return s.gone
	}
	s.stale = s.stale || isCode(err, "42703") // undefined_column: it is there again, without that
	return s.classify("fetch", err)
}

// classify is [classify] for the queue that the consumers of a store have.
func (s *store) classify(op string, err error) error {
	return subject{op: op, topic: s.topic, queue: s.queue}.classify(err)
}

// untilDue returns how long until there may be something to claim. An idle subscription
// asks that cheap question, and not for a lease.
func (s *store) untilDue(ctx context.Context) (next time.Duration, err error) {
	if !s.idle || s.signalled {
		return 0, nil
	}
	if next, err = s.scanNext(s.pool.QueryRow(ctx, s.sql().next, s.screening.refused.ids())); err == nil && next != 0 {
		s.stale = s.isUnbound(ctx)
	}
	return next, err
}

// bindingPause is how often an idle subscription looks whether its group is bound.
const bindingPause = 20 * time.Second

// isUnbound reports whether the queue of a group gets no messages any more, which does not show in the
// queue: pgmq.unbind_topic has taken it from its topic. It does not look each time.
func (s *store) isUnbound(ctx context.Context) bool {
	now := time.Now()
	if s.group == "" || now.Before(s.nextLook) {
		return false
	}
	s.nextLook = now.Add(s.bindingPause)
	bound, err := bindings(ctx, s.pool, s.topic)
	return err == nil && !slices.Contains(bound.Queues, s.queue)
}

func (s *store) claimIfDue(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	if err := s.refresh(ctx); err != nil {
		return subscription.Claim{}, err
	}
	s.retryRefused(ctx, lease)
	if len(settlements) == 0 && !s.suspects.hasReady() {
		if next, err := s.untilDue(ctx); err != nil || next != 0 {
			return subscription.Claim{Next: next}, err
		}
	}
	claim, settled, err := s.claim(ctx, settlements, limit, lease)
	if err != nil && !s.isDropped(ctx, err) {
		err = cmp.Or(settled.refusal(s, err), err)
	}
	if err != nil {
		return subscription.Claim{}, err
	}
	s.signalled, s.idle = false, len(claim.Leases) == 0 && claim.Next != 0
	claim.Missed = s.findMissed(ctx, tokensOf(settlements), settled.found)
	return claim, nil
}

// claim claims messages. A suspect that could be read comes first. It
// may be the last that there is room for.
func (s *store) claim(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settleResult, err error) {
	ready := s.suspects.takeReady(limit)
	limit -= len(ready)
	if s.screening.active {
		claim, settled, err = s.screen(ctx, settlements, limit, lease)
	} else {
		claim, settled, err = s.claimNew(ctx, settlements, limit, lease)
	}
	if err != nil {
		s.suspects.addReady(ready, true)
		return claim, settled, err
	}
	if len(ready) > 0 {
		leases := make([]subscription.Lease, len(ready), len(ready)+len(claim.Leases))
		for i, r := range ready {
			leases[i] = r.Lease
		}
		claim.Leases = append(leases, claim.Leases...)
	}
	return claim, settled, nil
}

func (s *store) claimNew(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settleResult, err error) {
	batch := s.beginClaim(settlements)
	settled = s.settle(batch, settlements)
	if len(settlements) > 0 {
		batch.Queue("select " + statementTimeoutSQL(s.screening.claimTimeout()))
	}
	var result readResult
	reading := false
	batch.Queue(s.sql().claim, limit, lease.Microseconds(), s.maxMessageBytes).Query(func(rows pgx.Rows) (err error) {
		reading = true
		result, err = s.scanLeases(rows)
		reading = err != nil
		return err
	})
	wasFull := s.full // if it is full again, the next time is not needed
	if !wasFull {
		s.queueNext(batch, &claim)
	}
	if err = batch.run(ctx, s.pool); err != nil {
		s.full = false
		if (s.screening.recordFailure(err, reading) || settled.refusal(s, err) == nil && !mayBeRetried(err)) && ctx.Err() == nil {
			return s.screen(ctx, settlements, limit, lease)
		}
		return claim, settled, err
	}
	claim.Leases = result.leases
	s.removeForged(ctx, s.pool, result.forged)
	s.release(ctx, result.surplus)
	if s.full = len(claim.Leases) == limit; len(result.surplus) > 0 {
		claim.Next = 0
	} else if wasFull && !s.full {
		claim.Next = s.next(ctx)
	}
	if s.examineLater(ctx, result.tooLarge, lease); len(result.tooLarge) > 0 {
		s.screening.activate()
	}
	if len(claim.Leases) == 0 && s.screening.active {
		next, _, err := s.screen(ctx, nil, limit, lease)
		return next, settled, err
	}
	return claim, settled, nil
}

// passBy finds the rows for which PostgreSQL has refused a claim of up to width messages with cause, and
// reports whether the next claim passes them by. If it refuses all rows, none of them is to blame.
func (s *store) passBy(ctx context.Context, cause error, width int, lease time.Duration) bool {
	refused := &s.screening.refused
	if mayBeRetried(cause) || ctx.Err() != nil {
		return false
	}
	due, newest, err := dueRows(ctx, s.pool, s.sql(), min(width+100, maxRefusedRows-refused.len()), refused.ids())
	if err != nil || len(due) == 0 {
		return false
	}
	// Messages published after the constraint was added fulfil it.
	_, fulfils := tryToLease(ctx, s.pool, s.sql(), []row{{ID: newest}}, lease)
	found, accepted := tryToLease(ctx, s.pool, s.sql(), due, lease)
	if len(found) == 0 || len(fulfils)+len(accepted) == 0 {
		return false
	}
	refused.add(rowIDs(found))
	for _, r := range found {
		if s.quarantined != nil {
			s.quarantined.Add(1)
		}
		about := sparse.About{Text: "ezq: PostgreSQL refuses to lease a message, which stays in its queue and is passed by; it is tried again", Topic: s.topic}
		sparse.Log(ctx, s.logger, slog.LevelError, about, "topic", s.topic, "queue", s.queue, "msg_id", r.ID, "error", s.classify("fetch", cause))
	}
	return true
}

// retryRefused tries the rows again that claims pass by, if it is time. Those that can be leased, or are not
// there any more, are passed by no longer.
func (s *store) retryRefused(ctx context.Context, lease time.Duration) {
	refused := &s.screening.refused
	if refused.len() == 0 || time.Now().Before(refused.next) {
		return
	}
	still := refused.ids()
	if there, err := rowsThere(ctx, s.pool, s.sql(), still); err == nil {
		_, accepted := tryToLease(ctx, s.pool, s.sql(), there, lease)
		still = rowIDs(slices.DeleteFunc(there, func(r row) bool { return accepted[r.ID] }))
	}
	refused.set(still)
}

// beginClaim begins a transaction for a claim. Settlements in it may take their
// time.
func (s *store) beginClaim(settlements []subscription.Settlement) *transaction {
	if len(settlements) > 0 {
		return newTransaction()
	}
	return newTransactionWithTimeout(s.screening.claimTimeout())
}

func (s *store) queueNext(batch *transaction, claim *subscription.Claim) {
	batch.Queue(s.sql().next, s.screening.refused.ids()).QueryRow(func(r pgx.Row) (err error) {
		claim.Next, err = s.scanNext(r)
		return err
	})
}

// next returns what scanNext does, or 0, which is to look again soon, if the server
// does not answer: the claim counts.
func (s *store) next(ctx context.Context) time.Duration {
	next, err := s.scanNext(s.pool.QueryRow(ctx, s.sql().next, s.screening.refused.ids()))
	if err != nil {
		return 0
	}
	return next
}

// scanNext returns how long until the next message becomes visible: 0 if one is,
// -1 if there is none. It notices a queue that is not the one that it was.
func (s *store) scanNext(r pgx.Row) (time.Duration, error) {
	var next *int64
	var oid uint32
	if err := r.Scan(&next, &oid); err != nil {
		return -1, err
	}
	if s.stale = oid != s.sql().oid; s.stale {
		return 0, nil
	}
	if next == nil {
		return -1, nil
	}
	const day = 24 * time.Hour // or more than a Duration can hold
	return time.Duration(min(max(*next, 0), day.Microseconds())) * time.Microsecond, nil
}

// scanLeases reads claimed messages. Further columns go to also.
func (s *store) scanLeases(rows pgx.Rows, also ...any) (result readResult, err error) {
	const block = 16 // deliveries in one allocation
	var free []delivery
	var r row
	var size int64
	columns := []any{&r.ID, &r.Number, &r.ReadAt, &r.PublishedAt, &r.VisibleAt, &r.Message, &r.Headers, &size, &r.Known}
	columns = append(columns, also...)
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return result, err
		}
		if size < 0 || size > int64(s.maxMessageBytes) {
			result.tooLarge = append(result.tooLarge, unread{row: r.withoutText(), cause: sizeError(size, s.maxMessageBytes)})
			continue
		}
		if result.isSurplus(r.ID) {
			result.surplus = append(result.surplus, r.token())
			continue
		}
		if len(free) == 0 {
			free = make([]delivery, block)
		}
		lease, forged := r.lease(s.topic, s.queue, s.sql(), &free[0])
		free = free[1:]
		lease.Size = memoryOverhead + int(size) + headersMemoryFactor*max(len(r.Headers)-sharedHeaders, 0)
		result.add(lease, s.maxBytes)
		if forged.any() {
			result.forged = append(result.forged, forged)
		}
	}
	// UPDATE … RETURNING has no order.
	slices.SortFunc(result.leases, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	return result, rows.Err()
}

// release releases what was leased and is not kept.
func (s *store) release(ctx context.Context, surplus []subscription.Token) {
	if len(surplus) == 0 {
		return
	}
	released := make([]subscription.Settlement, len(surplus))
	for i, token := range surplus {
		released[i] = subscription.Settlement{Token: token, Action: subscription.Release}
	}
	batch := newTransaction()
	s.settle(batch, released)
	if err := batch.run(ctx, s.pool); err != nil {
		s.logger.Warn("ezq: messages that there is no room for could not be released, and come back when their leases end",
			"queue", s.queue, "messages", len(surplus), "error", s.classify("settle", err))
	}
}

// Settle implements [subscription.Store]. The messages of a queue that was dropped
// are gone.
func (s *store) Settle(ctx context.Context, settlements []subscription.Settlement) (subscription.Missed, error) {
	if len(settlements) > 0 && settlements[0].Action == subscription.DeadLetter {
		return s.deadLetter(ctx, settlements)
	}
	batch := newTransaction()
	result := s.settle(batch, settlements)
	err := batch.run(ctx, s.pool)
	if s.isDropped(ctx, err) {
		return subscription.Missed{Gone: tokensOf(settlements)}, nil
	}
	if err != nil {
		return subscription.Missed{}, cmp.Or(result.refusal(s, err), s.classify("settle", err))
	}
	return s.findMissed(ctx, tokensOf(settlements), result.found), nil
}

// settle adds the statements for settlements to batch.
func (s *store) settle(batch *transaction, settlements []subscription.Settlement) *settleResult {
	sql := s.sql()
	result := &settleResult{found: make(idSet, len(settlements))}
	var acks tokenColumns
	var nacks nackColumns
	for _, settlement := range settlements {
		if settlement.Action == subscription.Ack {
			acks.add(settlement.Token)
		} else {
			nacks.add(settlement, s.encoding)
		}
	}
	if len(acks.ids) > 0 {
		batch.Queue(sql.ack, acks.ids, acks.numbers, acks.times).Query(result.collect(&result.ackPending))
	}
	if len(nacks.ids) > 0 {
		batch.Queue(sql.nack, nacks.ids, nacks.numbers, nacks.times, nacks.delays, nacks.headers, nacks.uncounts).Query(result.collect(&result.nackPending))
	}
	if len(settlements) > 0 {
		result.checkPending = true
		batch.Queue(checkSQL).Exec(func(pgconn.CommandTag) error {
			result.checkPending = false
			return nil
		})
	}
	return result
}

// findMissed returns the tokens of all that were not found, and why they were not. It has to
// look again: the first statement passes by what is locked, and cannot tell a message
// that another consumer has from one that was deleted beside it.
//
// If the second look fails, they count as locked: what may have been is tried again.
func (s *store) findMissed(ctx context.Context, all []subscription.Token, found idSet) (missed subscription.Missed) {
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
	batch := newTransaction()
	batch.Queue(s.sql().exist, missing.ids, missing.numbers, missing.times).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&id, &same}, func() error {
			valid[id] = same
			return nil
		})
		return err
	})
	err := batch.run(ctx, s.pool)
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

// Extend implements [subscription.Store].
func (s *store) Extend(ctx context.Context, leases []subscription.Token, lease time.Duration) (subscription.Missed, error) {
	extended, err := s.extend(ctx, s.pool, leases, lease)
	if s.isDropped(ctx, err) {
		return subscription.Missed{Gone: leases}, nil
	}
	if isServerError(err) {
		return subscription.Missed{}, &subscription.Refusal{Cause: s.classify("extend", err)}
	}
	if err != nil {
		return subscription.Missed{}, s.classify("extend", err)
	}
	return s.findMissed(ctx, leases, extended), nil
}

// extend extends leases, and returns those that it has found.
func (s *store) extend(ctx context.Context, db batchSender, leases []subscription.Token, lease time.Duration) (idSet, error) {
	columns, found := tokenColumnsOf(leases), make(idSet, len(leases))
	batch := newTransaction()
	batch.Queue(s.sql().extend, columns.ids, columns.numbers, columns.times, lease.Microseconds()).Query(found.collect)
	return found, batch.run(ctx, db)
}
