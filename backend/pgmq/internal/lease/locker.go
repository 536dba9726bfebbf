package lease

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// locker locks messages of a queue.
type locker struct {
	queue      *queue
	claims     *claimer
	claimSlots chan struct{} // has room for one claim less than the pool has connections
	lockSlots  chan struct{} // and for one lock less than that
}

// lock begins a transaction in which messages are locked. It can do so while there are connections for
// that: one is left for claims that lease, and one for settling.
func (l *locker) lock(ctx context.Context, limit int, lease time.Duration) (locked subscription.LockedBatch, claim subscription.Claim, ok bool, err error) {
	l.claims.screenUnleasable(ctx, lease)
	if l.claims.screening.active || l.claims.examination.suspects.hasReady() {
		return nil, claim, false, nil
	}
	release, ok := l.acquireSlot()
	if !ok {
		return nil, claim, false, nil
	}
	if err := l.claims.refresh(ctx); err != nil {
		release()
		return nil, claim, true, l.claims.claimError(ctx, err)
	}
	if next, err := l.claims.untilDue(ctx); err != nil || next != 0 {
		release()
		return nil, subscription.Claim{Next: next}, true, l.claims.claimError(ctx, err)
	}
	conn, err := l.queue.pool.Acquire(ctx)
	if err != nil {
		release()
		return nil, claim, true, l.queue.classify("fetch", err)
	}
	b := &lockedBatch{
		subject: fault.Subject{Op: "settle", Topic: l.queue.topic, Queue: l.queue.name}, sql: l.queue.sql(), conn: conn,
		unleasable: &l.claims.unleasable, release: func() { conn.Release(); release() },
	}
	claim, claimFirst, err := l.lockRows(ctx, conn, limit, lease)
	if err == nil && len(claim.Leases) == 0 && !conn.Conn().IsClosed() {
		_, err = conn.Exec(ctx, "rollback")
	}
	if claimFirst && err == nil {
		b.release()
		return nil, claim, false, nil
	}
	if err != nil || len(claim.Leases) == 0 {
		b.release() // after an error, this ends the transaction with the connection
		return nil, claim, true, l.claims.claimError(ctx, err)
	}
	for _, one := range claim.Leases {
		b.ids = append(b.ids, one.ID)
	}
	return b, claim, true, nil
}

// acquireSlot reports whether there may be another lock now, which release ends. A lock counts
// as a claim for as long as it lasts.
func (l *locker) acquireSlot() (release func(), ok bool) {
	select {
	case l.lockSlots <- struct{}{}:
	default:
		return nil, false
	}
	select {
	case l.claimSlots <- struct{}{}:
		return func() { <-l.claimSlots; <-l.lockSlots }, true
	default:
		<-l.lockSlots
		return nil, false
	}
}

// lockRows begins a transaction in which up to limit messages are locked. If some say what only ezq may, or cannot be
// read, it locks nothing, and they are to be claimed first: a claim removes what is forged, and screens them if they
// cannot be read.
func (l *locker) lockRows(ctx context.Context, conn *pgxpool.Conn, limit int, lease time.Duration) (claim subscription.Claim, claimFirst bool, err error) {
	var result readResult
	batch := transact.New()
	idle := min(lease.Milliseconds(), math.MaxInt32) // PostgreSQL takes no more
	batch.Queue(l.queue.sql().LockTable)
	batch.Queue(fmt.Sprintf("select pg_catalog.set_config('idle_in_transaction_session_timeout', '%d', true), ", idle) + transact.StatementTimeoutSQL(l.claims.screening.claimTimeout()))
	reading := false
	batch.Queue(l.queue.sql().Lock, limit, l.queue.maxMessageBytes).Query(func(rows pgx.Rows) (err error) {
		reading = true
		result, err = l.claims.reader.scan(rows, &claim.Redelivered)
		reading = err != nil
		return err
	})
	batch.Queue(l.queue.sql().Later).QueryRow(func(r pgx.Row) (err error) {
		claim.Next, err = l.claims.scanNext(r)
		return err
	})
	limited, stop := context.WithTimeout(ctx, l.claims.screening.claimTimeout()+readingFor)
	defer stop()
	if err := conn.SendBatch(limited, &batch.Batch).Close(); err != nil {
		if l.claims.screening.recordFailure(err, reading) && ctx.Err() == nil {
			return subscription.Claim{}, true, nil
		}
		return subscription.Claim{}, false, err
	}
	claim.Leases = result.leases
	l.claims.signalled, l.claims.idle = false, len(claim.Leases) == 0
	for i := range claim.Leases {
		claim.Leases[i].Delivery.Number = nextCount(claim.Leases[i].Number)
	}
	if len(result.surplus) > 0 {
		claim.Next = 0 // when this lock ends, they are there again
	}
	if len(result.tooLarge) > 0 {
		l.claims.screening.activate()
	}
	if len(result.tooLarge)+len(result.forged) > 0 {
		return subscription.Claim{}, true, nil
	}
	return claim, false, nil
}
