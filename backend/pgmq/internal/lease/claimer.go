package lease

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// claimer claims the messages of a queue. It belongs to the one goroutine that claims and locks.
type claimer struct {
	queue       *queue
	writer      writer
	reader      reader
	examination *examination

	loadStatements  func(ctx context.Context, unbound bool) (*statement.Set, error) // as the queue is now
	gone            error                                                           // what it means that there is no queue
	bindingInterval time.Duration                                                   // between two checks whether the group of an idle queue is bound

	unleasable unleasable // what lock transactions could not lease

	changed          <-chan struct{}
	signalled        bool // since the last claim
	idle             bool // the last claim found nothing
	full             bool // the last claim found as many messages as it asked for
	surplus          bool // the last claim found more than there was room for
	stale            bool // the queue was dropped, and may be another one now; or its group was unbound
	unbound          bool // its group was
	screening        screening
	nextBindingCheck time.Time // when to check next whether the group is bound
}

// refresh is for a queue that was dropped and created anew, perhaps as another kind.
func (c *claimer) refresh(ctx context.Context) error {
	if !c.stale {
		return nil
	}
	sql, err := c.loadStatements(ctx, c.unbound)
	if err != nil {
		return err
	}
	c.queue.current.Store(sql)
	c.stale, c.unbound, c.idle, c.full = false, false, false, false
	c.screening.refused = refusedRows{}
	return nil
}

// watch returns the channel that is closed at the next change of the queue.
func (c *claimer) watch() <-chan struct{} {
	select {
	case <-c.changed:
		c.signalled = true
	default:
	}
	c.changed = c.queue.wakeups.Next(c.queue.name)
	return c.changed
}

// claimIfDue claims messages, if there may be any, and stores settlements in the same transaction.
func (c *claimer) claimIfDue(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	if err := c.refresh(ctx); err != nil {
		return subscription.Claim{}, err
	}
	c.screenUnleasable(ctx, lease)
	c.screening.refused.retry(ctx, c.trial(ctx, lease))
	if c.screening.takeSearch() {
		c.passBy(ctx, limit, lease)
	}
	if len(settlements) == 0 && !c.examination.suspects.hasReady() {
		if next, err := c.untilDue(ctx); err != nil || next != 0 {
			return subscription.Claim{Next: next}, err
		}
	}
	claim, settled, err := c.claim(ctx, settlements, limit, lease)
	if err != nil && !c.queue.isDropped(ctx, err) {
		err = cmp.Or(settled.refusal(c.queue, err), err)
	}
	if err != nil {
		return subscription.Claim{}, err
	}
	c.signalled, c.idle = false, len(claim.Leases) == 0 && claim.Next != 0
	c.screening.recordClaim(len(claim.Leases), claim.Next == 0 && len(claim.Leases) < limit && !c.surplus)
	if err = c.screening.refused.unblamed; err != nil && len(settlements) == 0 {
		return subscription.Claim{}, err // PostgreSQL has given no error
	}
	claim.Missed = c.writer.findMissed(ctx, tokensOf(settlements), settled.found)
	return claim, nil
}

// screenUnleasable has the next messages screened, if a lock transaction could not lease some. What it has found
// to be kept is passed by, and a claim finds out what is refused.
func (c *claimer) screenUnleasable(ctx context.Context, lease time.Duration) {
	refused, unchanged := c.unleasable.take()
	if refused {
		c.screening.search()
	}
	if refused || len(unchanged) > 0 {
		c.screening.activate()
	}
	c.screening.refused.passByUnchanged(ctx, c.trial(ctx, lease), unchanged)
}

// claimError returns err as a [*fault.Error], which may be logged, or the reason for it if that is
// that there is no queue.
func (c *claimer) claimError(ctx context.Context, err error) error {
	if _, refused := errors.AsType[*subscription.Refusal](err); refused {
		return err
	}
	if c.queue.isDropped(ctx, err) {
		c.stale = true
		return c.gone
	}
	c.stale = c.stale || fault.IsCode(err, "42703") // undefined_column: it is there again, without that
	return c.queue.classify("fetch", err)
}

// untilDue returns how long until there may be something to claim. An idle subscription
// asks that cheap question, and not for a lease.
func (c *claimer) untilDue(ctx context.Context) (next time.Duration, err error) {
	if !c.idle || c.signalled {
		return 0, nil
	}
	if next, err = c.scanNext(c.queue.pool.QueryRow(ctx, c.queue.sql().Next, c.screening.refused.ids())); err == nil && next != 0 {
		c.unbound = c.isUnbound(ctx)
		c.stale = c.unbound
	}
	return next, err
}

// isUnbound reports whether the queue of a group gets no messages any more, which does not show in the
// queue: pgmq.unbind_topic has taken it from its topic. It does not look each time.
func (c *claimer) isUnbound(ctx context.Context) bool {
	now := time.Now()
	if c.queue.group == "" || now.Before(c.nextBindingCheck) {
		return false
	}
	c.nextBindingCheck = now.Add(c.bindingInterval)
	bound, err := catalog.Bindings(ctx, c.queue.pool, c.queue.topic)
	return err == nil && !bound.Include(c.queue.topic, c.queue.name)
}

// claim claims messages. A suspect that could be read comes first. It
// may be the last that there is room for.
func (c *claimer) claim(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settleResult, err error) {
	ready := c.examination.suspects.takeReady(limit)
	limit -= len(ready)
	if c.screening.active {
		claim, settled, err = c.screen(ctx, settlements, limit, lease)
	} else {
		claim, settled, err = c.claimNew(ctx, settlements, limit, lease)
	}
	if err != nil {
		c.examination.suspects.addReady(ready, true)
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

// claimNew claims messages and reads them. If that fails because of one of them, it screens them.
func (c *claimer) claimNew(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settleResult, err error) {
	c.surplus = false
	batch, settled := c.beginClaim(settlements, c.screening.claimTimeout())
	var result readResult
	reading := false
	batch.Queue(c.queue.sql().Claim, limit, lease.Microseconds(), c.queue.maxMessageBytes).Query(func(rows pgx.Rows) (err error) {
		reading = true
		result, err = c.reader.scan(rows)
		reading = err != nil
		return err
	})
	wasFull := c.full // if it is full again, the next time is not needed
	if !wasFull {
		c.queueNext(batch, &claim)
	}
	if err = batch.Run(ctx, c.queue.pool); err != nil {
		c.full = false
		if (c.screening.recordFailure(err, reading) || settled.refusal(c.queue, err) == nil && fault.IsServerError(err)) && ctx.Err() == nil {
			return c.screen(ctx, settlements, limit, lease)
		}
		return claim, settled, err
	}
	claim.Leases = result.leases
	c.reader.removeForged(ctx, c.queue.pool, result.forged)
	c.writer.release(ctx, result.surplus)
	c.surplus = len(result.surplus) > 0
	if c.full = len(claim.Leases) == limit; c.surplus {
		claim.Next = 0
	} else if wasFull && !c.full {
		claim.Next = c.next(ctx)
	}
	if c.examination.add(ctx, result.tooLarge, lease); len(result.tooLarge) > 0 {
		c.screening.activate()
	}
	if len(claim.Leases) == 0 && c.screening.active {
		next, _, err := c.screen(ctx, nil, limit, lease)
		return next, settled, err
	}
	return claim, settled, nil
}

// beginClaim begins a transaction for a claim, which may take so long. Settlements in it may take their
// time.
func (c *claimer) beginClaim(settlements []subscription.Settlement, timeout time.Duration) (*transact.Batch, *settleResult) {
	if len(settlements) == 0 {
		return transact.NewWithTimeout(timeout), c.writer.settle(nil, nil)
	}
	batch := transact.New()
	settled := c.writer.settle(batch, settlements)
	batch.Queue("select " + transact.StatementTimeoutSQL(timeout))
	return batch, settled
}

// queueNext has a batch find out what scanNext returns.
func (c *claimer) queueNext(batch *transact.Batch, claim *subscription.Claim) {
	batch.Queue(c.queue.sql().Next, c.screening.refused.ids()).QueryRow(func(r pgx.Row) (err error) {
		claim.Next, err = c.scanNext(r)
		return err
	})
}

// next returns what scanNext does, or 0, which is to look again soon, if the server
// does not answer: the claim counts.
func (c *claimer) next(ctx context.Context) time.Duration {
	next, err := c.scanNext(c.queue.pool.QueryRow(ctx, c.queue.sql().Next, c.screening.refused.ids()))
	if err != nil {
		return 0
	}
	return next
}

// scanNext returns how long until the next message becomes visible: 0 if one is,
// -1 if there is none. It notices a queue that is not the one that it was.
func (c *claimer) scanNext(r pgx.Row) (time.Duration, error) {
	var next *int64
	var oid uint32
	if err := r.Scan(&next, &oid); err != nil {
		return -1, err
	}
	if c.stale = oid != c.queue.sql().OID; c.stale {
		return 0, nil
	}
	if next == nil {
		return -1, nil
	}
	const day = 24 * time.Hour // or more than a Duration can hold
	return time.Duration(min(max(*next, 0), day.Microseconds())) * time.Microsecond, nil
}

// screen claims messages as claimNew does. It goes on while all of them are suspicious, and when it has
// found what it fails for.
func (c *claimer) screen(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (claim subscription.Claim, settled *settleResult, err error) {
	c.full, c.surplus = false, false
	end := time.Now().Add(2 * screenTimeout)
	for {
		batch, result := c.beginClaim(settlements, c.screening.leaseTimeout())
		batchLimit := c.screening.limitFor(limit)
		var leased []Row
		batch.Queue(c.queue.sql().Lease, batchLimit, lease.Microseconds(), c.screening.refused.ids()).Query(func(rows pgx.Rows) (err error) {
			leased, err = scanLeasedRows(rows)
			return err
		})
		batch.Queue(transact.CheckSQL)
		c.queueNext(batch, &claim)
		began := time.Now()
		err = batch.Run(ctx, c.queue.pool)
		if err != nil && result.refusal(c.queue, err) == nil && fault.IsServerError(err) && c.adapt(ctx, err, batchLimit, lease) {
			continue
		}
		settled = cmp.Or(settled, result)
		if err != nil {
			return claim, settled, err
		}
		c.screening.recordLease(time.Since(began))
		if claim.Leases, c.surplus = c.separate(ctx, leased, limit, lease); c.surplus {
			claim.Next = 0
		}
		if len(claim.Leases) > 0 || len(leased) < batchLimit || time.Now().After(end) || ctx.Err() != nil {
			return claim, settled, nil
		}
		settlements = nil
	}
}

// adapt reports whether the next claim may succeed, after one of up to width messages has failed with cause: it
// passes by what PostgreSQL refuses, or has fewer messages, or more time.
func (c *claimer) adapt(ctx context.Context, cause error, width int, lease time.Duration) bool {
	if end, ends := ctx.Deadline(); ctx.Err() != nil || ends && time.Until(end) < screenTimeout {
		c.screening.search() // the next time, when there is time for each row
		return false
	}
	found, accepted, all := c.passBy(ctx, width, lease)
	late := fault.IsStatementTimeout(cause)
	switch {
	case accepted > 0 && accepted < width && !all:
		c.screening.reduce(accepted)
	case found == 0 && late && width > 1:
		c.screening.reduce(max(min(accepted, width/2), 1))
	case found == 0:
		return late && c.screening.extendTimeout()
	}
	return true
}

// passBy looks for rows that PostgreSQL does not lease, which the next claims pass by. It returns how many it has
// found, how many messages may be claimed, and whether there are no more.
func (c *claimer) passBy(ctx context.Context, width int, lease time.Duration) (found, accepted int, all bool) {
	if found, accepted, all = c.screening.refused.search(ctx, c.trial(ctx, lease), width); found > 0 {
		c.screening.activate()
	}
	return found, accepted, all
}

// trial is how rows are tried: as many as a claim can lease in half of its time.
func (c *claimer) trial(ctx context.Context, lease time.Duration) trial {
	t := trial{queue: c.queue, lease: lease, timeout: slowUpdate, enough: c.screening.leaseTimeout() / 2}
	if end, ends := ctx.Deadline(); ends {
		t.timeout = min(t.timeout, time.Until(end)/2)
	}
	return t
}

// separate returns up to limit of the messages, as far as they can be read, leaves the
// suspicious ones to their examination, and releases the others, if there are more. Those that there was no time
// for are released, too, with all that comes after the first of them.
func (c *claimer) separate(ctx context.Context, leased []Row, limit int, lease time.Duration) (leases []subscription.Lease, more bool) {
	c.screening.extend(c.examination.suspects.lastBad())
	if len(leased) == 0 {
		c.screening.recordResult(0, 0, 0)
		return nil, false
	}
	good, bad, untried := c.reader.findSuspicious(ctx, leased)
	var surplus []subscription.Token
	for len(good) > limit {
		last := len(good) - 1
		surplus, good = append(surplus, good[last].token()), good[:last]
	}
	all, failed, skipped := c.reader.readTogether(ctx, c.queue.pool, good, screenTimeout, c.queue.maxBytes)
	untried = append(untried, skipped...)
	all.merge(surplusResult(untried), c.queue.maxBytes)
	bad = slices.Concat(bad, all.tooLarge, unreadRows(failed))
	c.screening.recordResult(len(leased), len(bad), len(untried))
	c.examination.add(ctx, bad, lease)
	c.reader.removeForged(ctx, c.queue.pool, all.forged)
	surplus = append(surplus, all.surplus...)
	c.writer.release(ctx, surplus)
	return all.leases, len(surplus) > 0
}
