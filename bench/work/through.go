package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/ezq-go/ezq/bench/contender"
)

// concurrent is publishing while what is published is being handled.
type concurrent struct{ n int }

func (t concurrent) run(ctx context.Context, lab *Lab, c contender.Contender) (_ Values, err error) {
	b, err := lab.open(ctx, c, testbedOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	publisher, ok := b.queue.(contender.Publisher)
	consumer, able := b.queue.(contender.Consumer)
	if !ok || !able {
		return nil, errCannot
	}
	tally, maker := newLedger(t.n, t.n), contender.NewMaker(256)
	if err := b.vacuum(ctx); err != nil {
		return nil, err
	}
	start, err := lab.meter.Read(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := consumer.Consume(ctx, tally.mark)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	for id := range t.n {
		if err := publisher.Publish(ctx, maker.Make(id)); err != nil {
			return nil, errors.Join(fmt.Errorf("publish: %w", err), stop())
		}
	}
	within(lab.scale.Limit, tally.reached)
	cost, err := lab.meter.Since(ctx, start)
	if err := errors.Join(err, stop()); err != nil {
		return nil, err
	}
	left, err := b.queue.Waiting(ctx)
	if err := errors.Join(err, tally.check(left)); err != nil {
		return nil, err
	}
	return perMessage(cost, float64(t.n)), nil
}
