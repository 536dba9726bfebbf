package pgmq

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/internal/subscription"
)

// store is one queue as the subscription engine sees it.
type store struct {
	queue  string
	sql    statements
	pool   *pgxpool.Pool
	claims chan struct{} // has room for one claim less than pool has connections
	hints  *hints
}

var _ subscription.Store = (*store)(nil)

// Changed implements [subscription.Store].
func (s *store) Changed() <-chan struct{} { return s.hints.of(s.queue) }

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
	claim := subscription.Claim{Next: -1}
	batch := newTransaction()
	settled := s.queueSettlements(batch, settle)
	batch.Queue(s.sql.claim, limit, lease.Microseconds()).Query(func(rows pgx.Rows) error {
		var err error
		claim.Leases, err = s.leases(rows)
		return err
	})
	batch.Queue(s.sql.next).QueryRow(func(r pgx.Row) error {
		var next *int64
		if err := r.Scan(&next); err != nil || next == nil {
			return err
		}
		claim.Next = max(time.Duration(*next)*time.Microsecond, 0)
		return nil
	})
	if err := batch.run(ctx, s.pool); err != nil {
		return subscription.Claim{}, err
	}
	claim.Lost = s.lost(ctx, settle, *settled)
	return claim, nil
}

func (s *store) leases(rows pgx.Rows) ([]subscription.Lease, error) {
	var leases []subscription.Lease
	var r row
	for rows.Next() {
		r = row{}
		if err := rows.Scan(&r.ID, &r.Number, &r.ReadAt, &r.PublishedAt, &r.Message, &r.Headers); err != nil {
			return nil, err
		}
		leases = append(leases, r.lease(s.queue))
	}
	// UPDATE … RETURNING has no order.
	slices.SortFunc(leases, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	return leases, rows.Err()
}

// Settle implements [subscription.Store].
func (s *store) Settle(ctx context.Context, settle []subscription.Settlement) ([]subscription.Token, error) {
	batch := newTransaction()
	settled := s.queueSettlements(batch, settle)
	if err := batch.run(ctx, s.pool); err != nil {
		return nil, err
	}
	return s.lost(ctx, settle, *settled), nil
}

// queueSettlements adds the statements for settle to batch, and returns where
// the ids of the messages will be that they found.
func (s *store) queueSettlements(batch *transaction, settle []subscription.Settlement) *map[int64]bool {
	settled := make(map[int64]bool, len(settle))
	collect := func(rows pgx.Rows) error {
		var id int64
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			settled[id] = true
			return nil
		})
		return err
	}
	var acks tokens
	var nacks nacks
	for _, settlement := range settle {
		if settlement.Action == subscription.Ack {
			acks.add(settlement.Token)
		} else {
			nacks.add(settlement)
		}
	}
	if len(acks.ids) > 0 {
		batch.Queue(s.sql.ack, acks.ids, acks.numbers, acks.times).Query(collect)
	}
	if len(nacks.ids) > 0 {
		batch.Queue(s.sql.nack, nacks.ids, nacks.numbers, nacks.times, nacks.delays, nacks.headers, nacks.uncounts).Query(collect)
	}
	return &settled
}

// lost returns the tokens of the messages that were not found under them and
// are still there. It has to look again: the first statement cannot tell a
// message that another consumer has from one that was deleted beside it.
//
// If the second look fails, nothing is reported; everything is settled anyway.
func (s *store) lost(ctx context.Context, settle []subscription.Settlement, settled map[int64]bool) []subscription.Token {
	var missing []int64
	for _, settlement := range settle {
		if !settled[settlement.ID] {
			missing = append(missing, settlement.ID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	rows, _ := s.pool.Query(ctx, s.sql.exist, missing) // the error is in rows
	there, _ := pgx.CollectRows(rows, pgx.RowTo[int64])
	var lost []subscription.Token
	for _, settlement := range settle {
		if slices.Contains(there, settlement.ID) && !settled[settlement.ID] {
			lost = append(lost, settlement.Token)
		}
	}
	return lost
}

// Extend implements [subscription.Store].
func (s *store) Extend(ctx context.Context, leases []subscription.Token, lease time.Duration) (lost []subscription.Token, err error) {
	var held tokens
	for _, token := range leases {
		held.add(token)
	}
	extended := map[int64]bool{}
	batch := newTransaction()
	batch.Queue(s.sql.extend, held.ids, held.numbers, held.times, lease.Microseconds()).Query(func(rows pgx.Rows) error {
		var id int64
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			extended[id] = true
			return nil
		})
		return err
	})
	if err := batch.run(ctx, s.pool); err != nil {
		return nil, err
	}
	for _, token := range leases {
		if !extended[token.ID] {
			lost = append(lost, token)
		}
	}
	return lost, nil
}

// tokens is tokens as the columns of a statement.
type tokens struct {
	ids     []int64
	numbers []int32
	times   []time.Time
}

func (t *tokens) add(token subscription.Token) {
	t.ids = append(t.ids, token.ID)
	t.numbers = append(t.numbers, int32(token.Number)) //nolint:gosec // it came from an integer column
	t.times = append(t.times, token.At)
}

// nacks is nacks and releases as the columns of a statement.
type nacks struct {
	tokens
	delays   []int64   // µs
	headers  []*string // to merge
	uncounts []int32   // reads to take back
}

func (n *nacks) add(s subscription.Settlement) {
	n.tokens.add(s.Token)
	n.delays = append(n.delays, s.Delay.Microseconds())
	if s.Action == subscription.Release {
		n.headers = append(n.headers, nil)
		n.uncounts = append(n.uncounts, 1)
		return
	}
	headers := fmt.Sprintf(`{%q:%d}`, failuresKey, s.Failures)
	n.headers = append(n.headers, &headers)
	n.uncounts = append(n.uncounts, 0)
}
