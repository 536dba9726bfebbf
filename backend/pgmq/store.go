package pgmq

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// store is one queue as the subscription engine sees it.
type store struct {
	queue       *queue
	settler     settler
	deadLetters deadLetterMover
	claims      *claimer
	locks       *locker
}

var (
	_ subscription.Store  = (*store)(nil)
	_ subscription.Locker = (*store)(nil)
)

// storeConfig is what a store of a queue is made of.
type storeConfig struct {
	topic, queue, group string
	gone                error // what it means that there is no queue
	encoding            encoding
	statements          *statements
	loadStatements      func(ctx context.Context, was uint32) (*statements, error) // as the queue is now

	pool       *pgxpool.Pool
	claimSlots chan struct{} // has room for one claim less than pool has connections
	lockSlots  chan struct{} // and for one lock less than that

	wakeups         *wakeups
	examiner        *examiner
	deadLetterTable deadLetterTableFunc
	maxMessageBytes int           // of the size of a message
	maxBytes        int64         // bytes that one claim keeps
	bindingPause    time.Duration // between two looks whether the group of an idle queue is bound
	logger          *slog.Logger
}

func newStore(config storeConfig) *store {
	of := &queue{
		topic: config.topic, name: config.queue, group: config.group, pool: config.pool, wakeups: config.wakeups,
		maxMessageBytes: config.maxMessageBytes, maxBytes: config.maxBytes, encoding: config.encoding, logger: config.logger,
	}
	of.current.Store(config.statements)
	settles := settler{of}
	claims := &claimer{
		queue: of, settler: settles, reader: reader{of}, examination: newExamination(of, config.examiner),
		gone: config.gone, bindingPause: config.bindingPause,
		loadStatements: func(ctx context.Context) (*statements, error) { return config.loadStatements(ctx, of.sql().oid) },
	}
	return &store{
		queue: of, settler: settles, claims: claims,
		deadLetters: deadLetterMover{queue: of, settler: settles, table: config.deadLetterTable},
		locks:       &locker{queue: of, claims: claims, claimSlots: config.claimSlots, lockSlots: config.lockSlots},
	}
}

// countQuarantined has the messages counted that are put away.
func (s *store) countQuarantined(counter *atomic.Int64) { s.queue.quarantined = counter }

// Changed implements [subscription.Store].
func (s *store) Changed() <-chan struct{} { return s.claims.watch() }

// Settle implements [subscription.Store].
func (s *store) Settle(ctx context.Context, settlements []subscription.Settlement) (subscription.Missed, error) {
	if len(settlements) > 0 && settlements[0].Action == subscription.DeadLetter {
		return s.deadLetters.move(ctx, settlements)
	}
	return s.settler.run(ctx, settlements)
}

// Extend implements [subscription.Store].
func (s *store) Extend(ctx context.Context, leases []subscription.Token, lease time.Duration) (subscription.Missed, error) {
	return s.settler.keep(ctx, leases, lease)
}

// Lock implements [subscription.Locker].
func (s *store) Lock(ctx context.Context, limit int, lease time.Duration) (locked subscription.LockedBatch, claim subscription.Claim, ok bool, err error) {
	return s.locks.lock(ctx, limit, lease)
}

// Claim implements [subscription.Store] in one round trip and one transaction.
// The settlements come first: a claim that skips locked rows can lock others in
// passing, and a settlement after it could wait for a transaction that waits for
// this one.
func (s *store) Claim(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	select {
	case s.locks.claimSlots <- struct{}{}:
		defer func() { <-s.locks.claimSlots }()
	case <-ctx.Done():
		return subscription.Claim{}, ctx.Err()
	}
	claim, err := s.claims.claimIfDue(ctx, settlements, limit, lease)
	return claim, s.claims.claimError(ctx, err)
}
