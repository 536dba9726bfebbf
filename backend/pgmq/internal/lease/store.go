package lease

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// BindingInterval is how often an idle subscription checks whether its group is bound.
const BindingInterval = 20 * time.Second

// Store is one queue as the subscription engine sees it.
type Store struct {
	queue       *queue
	writer      writer
	deadLetters deadLetterMover
	claims      *claimer
	locks       *locker
	paused      func() (*backend.Paused, <-chan struct{})
}

var (
	_ subscription.Locker    = (*Store)(nil)
	_ subscription.Pausable  = (*Store)(nil)
	_ subscription.Removable = (*Store)(nil)
)

// Config is what a store of a queue is made of.
type Config struct {
	Topic, Queue, Group string
	Gone                error // what it means that there is no queue
	Encoding            codec.Encoding
	Statements          *statement.Set
	LoadStatements      func(ctx context.Context, was uint32, unbound bool) (*statement.Set, error) // as the queue is now

	Pool       *pgxpool.Pool
	ClaimSlots chan struct{} // has room for one claim less than pool has connections
	LockSlots  chan struct{} // and for one lock less than that

	Paused          func() (*backend.Paused, <-chan struct{}) // as [subscription.Pausable] says
	Wakeups         *wakeup.Signals
	Examiner        *Examiner
	DeadLetterTable DeadLetterTableFunc
	MaxMessageBytes int           // how large a message may be
	MaxBytes        int64         // how many one claim keeps
	BindingInterval time.Duration // between two checks whether the group of an idle queue is bound
	Logger          *slog.Logger
}

// NewStore returns the store of a queue.
func NewStore(config Config) *Store {
	of := &queue{
		topic: config.Topic, name: config.Queue, group: config.Group, pool: config.Pool, wakeups: config.Wakeups,
		maxMessageBytes: config.MaxMessageBytes, maxBytes: config.MaxBytes, encoding: config.Encoding, logger: config.Logger,
	}
	of.current.Store(config.Statements)
	writes := writer{of}
	claims := &claimer{
		queue: of, writer: writes, reader: reader{of}, examination: newExamination(of, config.Examiner),
		gone: config.Gone, bindingInterval: config.BindingInterval,
		loadStatements: func(ctx context.Context, unbound bool) (*statement.Set, error) {
			return config.LoadStatements(ctx, of.sql().OID, unbound)
		},
	}
	return &Store{
		queue: of, writer: writes, claims: claims, paused: config.Paused,
		deadLetters: deadLetterMover{queue: of, writer: writes, table: config.DeadLetterTable},
		locks:       &locker{queue: of, claims: claims, claimSlots: config.ClaimSlots, lockSlots: config.LockSlots},
	}
}

// CountQuarantined has the messages counted that are quarantined.
func (s *Store) CountQuarantined(counter *atomic.Int64) { s.queue.quarantined = counter }

// QueueName returns the name of the queue.
func (s *Store) QueueName() string { return s.queue.name }

// Changed implements [subscription.Store].
func (s *Store) Changed() <-chan struct{} { return s.claims.watch() }

// Paused implements [subscription.Pausable].
func (s *Store) Paused() (*backend.Paused, <-chan struct{}) { return s.paused() }

// Removed implements [subscription.Removable].
func (s *Store) Removed() <-chan struct{} { return s.queue.wakeups.Next(wakeup.Removals(s.queue.name)) }

// Settle implements [subscription.Store].
func (s *Store) Settle(ctx context.Context, settlements []subscription.Settlement) (subscription.Missed, error) {
	if len(settlements) > 0 && settlements[0].Action == subscription.DeadLetter {
		return s.deadLetters.move(ctx, settlements)
	}
	return s.writer.run(ctx, settlements)
}

// Extend implements [subscription.Store].
func (s *Store) Extend(ctx context.Context, leases []subscription.Token, lease time.Duration) (subscription.Missed, error) {
	return s.writer.extend(ctx, leases, lease)
}

// Lock implements [subscription.Locker].
func (s *Store) Lock(ctx context.Context, limit int, lease time.Duration) (locked subscription.LockedBatch, claim subscription.Claim, ok bool, err error) {
	return s.locks.lock(ctx, limit, lease)
}

// Claim implements [subscription.Store] in one round trip and one transaction.
// The settlements come first: a claim that skips locked rows can lock others in
// passing, and a settlement after it could wait for a transaction that waits for
// this one.
func (s *Store) Claim(ctx context.Context, settlements []subscription.Settlement, limit int, lease time.Duration) (subscription.Claim, error) {
	select {
	case s.locks.claimSlots <- struct{}{}:
		defer func() { <-s.locks.claimSlots }()
	case <-ctx.Done():
		return subscription.Claim{}, ctx.Err()
	}
	claim, err := s.claims.claimIfDue(ctx, settlements, limit, lease)
	return claim, s.claims.claimError(ctx, err)
}
