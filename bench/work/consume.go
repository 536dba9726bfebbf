package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/ezq-go/ezq/bench/contender"
)

// consume starts n consumers of the queue, as n processes have them: each but the first is opened
// anew. They share only the clients' CPU, as they would on one machine.
func (b *bench) consume(ctx context.Context, n int, handle func(id int)) (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range stops {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	for i := range n {
		queue := b.queue
		if i > 0 {
			if queue, err = b.contender.Open(ctx, b.env); err != nil {
				return nil, errors.Join(fmt.Errorf("open its queue: %w", err), stop())
			}
		}
		consumer, ok := queue.(contender.Consumer)
		if !ok {
			return nil, errors.Join(errCannot, stop())
		}
		end, err := consumer.Consume(ctx, handle)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe: %w", err), stop())
		}
		stops = append(stops, end)
		if i > 0 {
			stops = append(stops, queue.Close)
		}
	}
	return stop, nil
}
