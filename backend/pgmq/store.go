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
	topic    string // for errors
	queue    string
	current  atomic.Pointer[statements]
	pool     *pgxpool.Pool
	claims   chan struct{} // has room for one claim less than pool has connections
	holds    chan struct{} // and for one hold less than that
	hints    *hints
	describe func(ctx context.Context) (*statements, error) // as the queue is now
	group    string
	gone     error // what it means that there is no queue
	open     letterTables
	limit    int   // of the size of a message
	most     int64 // bytes that one claim keeps
	encoding encoding
	logger   *slog.Logger
	aside    *aside

	quarantined *atomic.Int64 // nil if it is not asked for

	bindingPause time.Duration // between two looks whether the group of an idle queue is bound

	// Of the one goroutine that claims:
	changed  <-chan struct{}
	hinted   bool // since the last claim
	quiet    bool // the last claim found nothing
	full     bool // the last claim found as many messages as it asked for
	stale    bool // the queue was dropped, and may be another one now; or its group was unbound
	sieve    sieve
	nextLook time.Time // when to look next whether the group is bound

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
	sql, err := s.describe(ctx)
	if err != nil {
		return err
	}
	s.current.Store(sql)
	s.stale, s.quiet, s.full = false, false, false
	s.sieve.refused = refusedRows{}
	return nil
}

// Changed implements [subscription.Store].
func (s *store) Changed() <-chan struct{} {
	select {
	case <-s.changed:
		s.hinted = true
	default:
	}
	s.changed = s.hints.of(s.queue)
	return s.changed
}

// Claim implements [subscription.Store] in one round trip and one transaction.
// The settlements come first: a claim that skips locked rows can lock others in
// passing, and a settlement after it could wait for a transaction that waits for
// this one.
func (s *store) Claim(ctx context.Context, settle []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	select {
	case s.claims <- struct{}{}:
		defer func() { <-s.claims }()
	case <-ctx.Done():
		return subscription.Claim{}, ctx.Err()
	}
	claim, err := s.lookAndClaim(ctx, settle, limit, lease)
	return claim, s.dropped(ctx, err)
}

// dropped returns err as an [*Error], which may be logged, or the reason for it if that is
// that there is no queue.
func (s *store) dropped(ctx context.Context, err error) error {
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

// look returns how long until there may be something to claim. An idle subscription
// asks that cheap question, and not for a lease.
func (s *store) look(ctx context.Context) (next time.Duration, err error) {
	if !s.quiet || s.hinted {
		return 0, nil
	}
	if next, err = s.scanNext(s.pool.QueryRow(ctx, s.sql().next, s.sieve.refused.ids())); err == nil && next != 0 {
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

func (s *store) lookAndClaim(ctx context.Context, settle []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	if err := s.refresh(ctx); err != nil {
		return subscription.Claim{}, err
	}
	s.retryRefused(ctx, lease)
	if len(settle) == 0 && !s.aside.hasReady() {
		if next, err := s.look(ctx); err != nil || next != 0 {
			return subscription.Claim{Next: next}, err
		}
	}
	claim, settled, err := s.claim(ctx, settle, limit, lease)
	if err != nil && !s.isDropped(ctx, err) {
		err = cmp.Or(settled.refusal(s, err), err)
	}
	if err != nil {
		return subscription.Claim{}, err
	}
	s.hinted, s.quiet = false, len(claim.Leases) == 0 && claim.Next != 0
	claim.Missed = s.missed(ctx, tokensOf(settle), settled.found)
	return claim, nil
}

// claim claims messages. One that was put aside to be read, and could be, comes first. It
// may be the last that there is room for.
func (s *store) claim(ctx context.Context, settle []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settling, err error) {
	ready := s.aside.take(limit)
	limit -= len(ready)
	if s.sieve.used {
		claim, settled, err = s.sift(ctx, settle, limit, lease)
	} else {
		claim, settled, err = s.claimNew(ctx, settle, limit, lease)
	}
	if err != nil {
		s.aside.put(ready, true)
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

func (s *store) claimNew(ctx context.Context, settle []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settling, err error) {
	batch := s.patiently(settle)
	settled = s.settle(batch, settle)
	if len(settle) > 0 {
		batch.Queue("select " + patienceSQL(s.sieve.patience()))
	}
	var found found
	reading := false
	batch.Queue(s.sql().claim, limit, lease.Microseconds(), s.limit).Query(func(rows pgx.Rows) (err error) {
		reading = true
		found, err = s.leases(rows)
		reading = err != nil
		return err
	})
	again := s.full // if it is full again, nobody asks what comes next
	if !again {
		s.queueNext(batch, &claim)
	}
	if err = batch.run(ctx, s.pool); err != nil {
		s.full = false
		if (s.sieve.suspects(err, reading) || settled.refusal(s, err) == nil && !mayPass(err)) && ctx.Err() == nil {
			return s.sift(ctx, settle, limit, lease)
		}
		return claim, settled, err
	}
	claim.Leases = found.leases
	s.distrust(ctx, s.pool, found.forged)
	s.putBack(ctx, found.surplus)
	if s.full = len(claim.Leases) == limit; len(found.surplus) > 0 {
		claim.Next = 0
	} else if again && !s.full {
		claim.Next = s.next(ctx)
	}
	if s.putAside(ctx, found.tooLarge, lease); len(found.tooLarge) > 0 {
		s.sieve.use()
	}
	if len(claim.Leases) == 0 && s.sieve.used {
		next, _, err := s.sift(ctx, nil, limit, lease)
		return next, settled, err
	}
	return claim, settled, nil
}

// passBy finds the rows for which PostgreSQL has refused a claim of up to width messages with cause, and
// reports whether the next claim passes them by. If it refuses all rows, none of them is to blame.
func (s *store) passBy(ctx context.Context, cause error, width int, lease time.Duration) bool {
	refused := &s.sieve.refused
	if mayPass(cause) || ctx.Err() != nil {
		return false
	}
	due, newest, err := dueRows(ctx, s.pool, s.sql(), min(width+100, maxRefusedRows-refused.len()), refused.ids())
	if err != nil || len(due) == 0 {
		return false
	}
	// What was published after the constraint was added fulfils it.
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
	refused := &s.sieve.refused
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

// patiently begins a transaction for a claim. What it settles may take its time.
func (s *store) patiently(settle []subscription.Settlement) *transaction {
	if len(settle) > 0 {
		return newTransaction()
	}
	return newPatientTransaction(s.sieve.patience())
}

func (s *store) queueNext(batch *transaction, claim *subscription.Claim) {
	batch.Queue(s.sql().next, s.sieve.refused.ids()).QueryRow(func(r pgx.Row) (err error) {
		claim.Next, err = s.scanNext(r)
		return err
	})
}

// next returns what scanNext does, or 0, which is to look again soon, if the server
// does not answer: what was claimed counts.
func (s *store) next(ctx context.Context) time.Duration {
	next, err := s.scanNext(s.pool.QueryRow(ctx, s.sql().next, s.sieve.refused.ids()))
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

// leases reads claimed messages. Further columns go to also.
func (s *store) leases(rows pgx.Rows, also ...any) (found found, err error) {
	const block = 16 // deliveries in one allocation
	var free []delivery
	var r row
	var size int64
	columns := []any{&r.ID, &r.Number, &r.ReadAt, &r.PublishedAt, &r.VisibleAt, &r.Message, &r.Headers, &size, &r.Known}
	columns = append(columns, also...)
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return found, err
		}
		if size < 0 || size > int64(s.limit) {
			found.tooLarge = append(found.tooLarge, unread{row: r.bare(), cause: sizeError(size, s.limit)})
			continue
		}
		if found.isBeyond(r.ID) {
			found.surplus = append(found.surplus, r.token())
			continue
		}
		if len(free) == 0 {
			free = make([]delivery, block)
		}
		lease, forged := r.lease(s.topic, s.queue, s.sql(), &free[0])
		free = free[1:]
		lease.Size = messageWeight + int(size) + headersWeight*max(len(r.Headers)-sharedHeaders, 0)
		found.add(lease, s.most)
		if forged.any() {
			found.forged = append(found.forged, forged)
		}
	}
	// UPDATE … RETURNING has no order.
	slices.SortFunc(found.leases, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	return found, rows.Err()
}

// putBack releases what was leased and is not kept.
func (s *store) putBack(ctx context.Context, surplus []subscription.Token) {
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
func (s *store) Settle(ctx context.Context, settle []subscription.Settlement) (subscription.Missed, error) {
	if len(settle) > 0 && settle[0].Action == subscription.DeadLetter {
		return s.bury(ctx, settle)
	}
	batch := newTransaction()
	settling := s.settle(batch, settle)
	err := batch.run(ctx, s.pool)
	if s.isDropped(ctx, err) {
		return subscription.Missed{Gone: tokensOf(settle)}, nil
	}
	if err != nil {
		return subscription.Missed{}, cmp.Or(settling.refusal(s, err), s.classify("settle", err))
	}
	return s.missed(ctx, tokensOf(settle), settling.found), nil
}

// settle adds the statements for settlements to batch.
func (s *store) settle(batch *transaction, settle []subscription.Settlement) *settling {
	sql := s.sql()
	settling := &settling{found: make(ids, len(settle))}
	var acks tokens
	var nacks nacks
	for _, settlement := range settle {
		if settlement.Action == subscription.Ack {
			acks.add(settlement.Token)
		} else {
			nacks.add(settlement, s.encoding)
		}
	}
	if len(acks.ids) > 0 {
		batch.Queue(sql.ack, acks.ids, acks.numbers, acks.times).Query(settling.collect(&settling.acking))
	}
	if len(nacks.ids) > 0 {
		batch.Queue(sql.nack, nacks.ids, nacks.numbers, nacks.times, nacks.delays, nacks.headers, nacks.uncounts).Query(settling.collect(&settling.nacking))
	}
	if len(settle) > 0 {
		settling.checking = true
		batch.Queue(checkSQL).Exec(func(pgconn.CommandTag) error {
			settling.checking = false
			return nil
		})
	}
	return settling
}

// missed returns the tokens of all that were not found, and why they were not. It has to
// look again: the first statement passes by what is locked, and cannot tell a message
// that another consumer has from one that was deleted beside it.
//
// If the second look fails, they count as locked: what may have been is tried again.
func (s *store) missed(ctx context.Context, all []subscription.Token, found ids) (missed subscription.Missed) {
	var missing tokens
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
	if isAnswer(err) {
		return subscription.Missed{}, &subscription.Refusal{Cause: s.classify("extend", err)}
	}
	if err != nil {
		return subscription.Missed{}, s.classify("extend", err)
	}
	return s.missed(ctx, leases, extended), nil
}

// extend extends leases, and returns those that it has found.
func (s *store) extend(ctx context.Context, db batcher, leases []subscription.Token, lease time.Duration) (ids, error) {
	held, found := columnsOf(leases), make(ids, len(leases))
	batch := newTransaction()
	batch.Queue(s.sql().extend, held.ids, held.numbers, held.times, lease.Microseconds()).Query(found.collect)
	return found, batch.run(ctx, db)
}
