package work

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/measure"
	"github.com/ezq-go/ezq/bench/result"
)

// publish is publishing for a while: one message per call from several goroutines, or batches
// from one.
type publish struct {
	goroutines int
	batch      int // 0: single messages
	size       int

	condition contender.Condition // "": none
	sharing   int                 // with a condition: how many messages have the same key
}

var errCannot = errors.New("it cannot do this work")

func (p publish) run(ctx context.Context, lab *Lab, c contender.Contender) (_ Values, err error) {
	b, err := lab.open(ctx, c, testbedOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	send, err := p.sender(ctx, b)
	if err != nil {
		return nil, err
	}
	var ids atomic.Int64
	if err := repeat(p.goroutines, time.Now().Add(lab.scale.Publish/10), &ids, send); err != nil {
		return nil, fmt.Errorf("publish while warming up: %w", err)
	}
	if err := b.vacuum(ctx); err != nil {
		return nil, err
	}

	warm := ids.Load()
	start, err := lab.meter.Read(ctx)
	if err != nil {
		return nil, err
	}
	failure := repeat(p.goroutines, time.Now().Add(lab.scale.Publish), &ids, send)
	cost, err := lab.meter.Since(ctx, start)
	if err := errors.Join(failure, err); err != nil {
		return nil, err
	}
	perCall := int64(max(p.batch, 1))
	published := int(ids.Load() * perCall)
	if p.condition != "" {
		published = (published + p.sharing - 1) / p.sharing
	}
	if err := audit(ctx, b.queue, published); err != nil {
		return nil, err
	}
	return perMessage(cost, float64((ids.Load()-warm)*perCall)), nil
}

// sender returns what makes one call, given its number.
func (p publish) sender(ctx context.Context, b *testbed) (func(call int) error, error) {
	maker := contender.NewMaker(p.size)
	if p.condition != "" {
		publisher, ok := b.queue.(contender.ConditionalPublisher)
		if !ok {
			return nil, errCannot
		}
		return func(call int) error {
			return publisher.PublishOn(ctx, maker.Make(call), p.condition, fmt.Sprint("key ", call/p.sharing))
		}, nil
	}
	if p.batch == 0 {
		publisher, ok := b.queue.(contender.Publisher)
		if !ok {
			return nil, errCannot
		}
		return func(call int) error { return publisher.Publish(ctx, maker.Make(call)) }, nil
	}
	publisher, ok := b.queue.(contender.BatchPublisher)
	if !ok {
		return nil, errCannot
	}
	return func(call int) error {
		messages := make([]contender.Message, p.batch)
		for i := range messages {
			messages[i] = maker.Make(call*p.batch + i)
		}
		return publisher.PublishBatch(ctx, messages)
	}, nil
}

// repeat calls send with ever new numbers from several goroutines, until the deadline or an error.
func repeat(goroutines int, deadline time.Time, ids *atomic.Int64, send func(call int) error) error {
	var running sync.WaitGroup
	errs := make([]error, goroutines)
	for i := range goroutines {
		running.Go(func() {
			for errs[i] == nil && time.Now().Before(deadline) {
				errs[i] = send(int(ids.Add(1)) - 1)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// audit returns an error if not exactly n messages are stored.
func audit(ctx context.Context, queue contender.Queue, n int) error {
	stored, err := queue.Waiting(ctx)
	if err != nil {
		return fmt.Errorf("count what is stored: %w", err)
	}
	if stored.Messages != n || stored.Distinct != n {
		return fmt.Errorf("published %d, but %d are stored, %d of them different", n, stored.Messages, stored.Distinct)
	}
	return nil
}

// Values are what was measured.
type Values = map[result.Metric]float64

func perMessage(cost measure.Cost, messages float64) Values {
	values := Values{
		result.Rate:      messages / cost.Elapsed.Seconds(),
		result.ClientCPU: float64(cost.Client.Microseconds()) / messages,
		result.Allocs:    float64(cost.Allocs) / messages,
		result.WAL:       float64(cost.WAL) / messages,
	}
	if cost.Server > 0 {
		values[result.ServerCPU] = float64(cost.Server.Microseconds()) / messages
	}
	return values
}
