package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/measure"
)

// drain is handling what is in a queue.
type drain struct {
	fill      int           // how many messages are in it
	take      int           // how many are handled; 0: all
	size      int           // of each, in bytes
	consumers int           // how many drain it; 0: one
	inFlight  int           // how many are handled at a time; 0: the handler does nothing
	handler   time.Duration // how long handling one takes
	slow      time.Duration // how long it takes for one in a hundred
	obstruct  contender.Obstruction
	obstacles int // how many of what obstructs there are
	pinned    bool

	statistics statistics // "": those of a server that has just looked
}

func (d drain) run(ctx context.Context, lab *Lab, c contender.Contender) (_ Values, err error) {
	if c.Serial && d.handler > 0 {
		d.fill = min(d.fill, max(20, int(lab.scale.Limit/2/(d.handler+d.slow/100))))
	}
	b, err := lab.open(ctx, c, testbedOptions{inFlight: d.inFlight})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	if err := d.prepare(ctx, b); err != nil {
		return nil, err
	}
	if d.pinned {
		release, err := pin(ctx, b)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	return d.consume(ctx, b)
}

// prepare fills the queue.
func (d drain) prepare(ctx context.Context, b *testbed) error {
	if d.obstacles > 0 {
		obstructor, ok := b.queue.(contender.Obstructor)
		if !ok {
			return errCannot
		}
		if err := obstructor.Obstruct(ctx, d.obstruct, d.obstacles); err != nil {
			return fmt.Errorf("obstruct: %w", err)
		}
	}
	publisher, ok := b.queue.(contender.BatchPublisher)
	if !ok {
		return errCannot
	}
	fill := func() error { return publishAll(ctx, publisher, contender.NewMaker(d.size), d.fill, 1000) }
	if d.statistics != "" {
		return d.statistics.prepare(ctx, b, d.fill, fill)
	}
	if err := fill(); err != nil {
		return err
	}
	return b.vacuum(ctx)
}

func (d drain) consume(ctx context.Context, b *testbed) (Values, error) {
	target := d.fill
	if d.take > 0 {
		target = min(d.take, d.fill)
	}
	tally := newLedger(d.fill, target)
	start, err := b.lab.meter.Read(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := b.consume(ctx, max(d.consumers, 1), d.handle(tally))
	if err != nil {
		return nil, err
	}
	complete := within(b.lab.scale.Limit, tally.reached)
	cost, err := b.lab.meter.Since(ctx, start)
	handled := tally.distinct.Load()
	if complete && target == d.fill && err == nil {
		cost, err = d.untilEmpty(ctx, b, start)
	}
	if err := errors.Join(err, stop()); err != nil {
		return nil, err
	}
	left, err := b.queue.Waiting(ctx)
	if err != nil {
		return nil, fmt.Errorf("count what is left: %w", err)
	}
	if err := tally.check(left); err != nil {
		return nil, err
	}
	if handled == 0 {
		return nil, fmt.Errorf("handled nothing in %v", b.lab.scale.Limit)
	}
	return perMessage(cost, float64(handled)), nil
}

func (d drain) handle(tally *ledger) func(id int) {
	return func(id int) {
		switch {
		case d.slow > 0 && id%100 == 0:
			time.Sleep(d.slow)
		case d.handler > 0:
			time.Sleep(d.handler)
		}
		tally.mark(id)
	}
}

// within waits until done is closed, for no longer than limit.
func within(limit time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// untilEmpty returns the cost until the acks of all messages are stored: who stores them late is not done
// earlier. The last look itself is not counted.
func (drain) untilEmpty(ctx context.Context, b *testbed, start measure.Reading) (measure.Cost, error) {
	for deadline := time.Now().Add(b.lab.scale.Limit); ; {
		cost, err := b.lab.meter.Since(ctx, start)
		if err != nil {
			return cost, err
		}
		left, err := b.queue.Waiting(ctx)
		if err != nil {
			return cost, fmt.Errorf("count what is left: %w", err)
		}
		if left.Messages == 0 || time.Now().After(deadline) {
			return cost, nil // what is left then, the audit reports
		}
	}
}

// awaitEmpty waits until no message is stored any more, for no longer than the limit: what is left
// then, the audit reports.
func awaitEmpty(ctx context.Context, b *testbed) error {
	for deadline := time.Now().Add(b.lab.scale.Limit); time.Now().Before(deadline); {
		left, err := b.queue.Waiting(ctx)
		if err != nil {
			return fmt.Errorf("count what is left: %w", err)
		}
		if left.Messages == 0 {
			return nil
		}
	}
	return nil
}

// pin opens a transaction that keeps the server from forgetting dead rows, as a backup does, or a
// session that was left open.
func pin(ctx context.Context, b *testbed) (release func(), err error) {
	tx, err := b.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	if _, err := tx.Exec(ctx, "select count(*) from pg_class"); err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	return func() { _ = tx.Rollback(ctx) }, nil
}
