package work

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/measure"
	"github.com/ezq-go/ezq/bench/result"
)

// latency is the time from the call that publishes a message to the call of its handler. Messages
// are published at a steady rate, however long the ones before take.
type latency struct{ perSecond int }

func (l latency) run(ctx context.Context, lab *Lab, c contender.Contender) (_ Values, err error) {
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
	warm := max(10, l.perSecond/2)
	n := warm + max(20, int(float64(l.perSecond)*lab.scale.Latency.Seconds()))
	tally, sent, took := newLedger(n, n), make([]time.Time, n), make([]float64, n)
	stop, err := consumer.Consume(ctx, func(id int) {
		if id >= 0 && id < n {
			took[id] = float64(time.Since(sent[id]).Microseconds()) / 1000
		}
		tally.mark(id)
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	failure := l.publish(ctx, publisher, sent)
	if within(lab.scale.Limit, tally.reached) && failure == nil {
		failure = awaitEmpty(ctx, b)
	}
	if err := errors.Join(failure, stop()); err != nil {
		return nil, err
	}
	left, err := b.queue.Waiting(ctx)
	if err := errors.Join(err, tally.check(left)); err != nil {
		return nil, err
	}
	took = took[warm:]
	return Values{
		result.P50: measure.Percentile(took, 50),
		result.P95: measure.Percentile(took, 95),
		result.P99: measure.Percentile(took, 99),
	}, nil
}

func (l latency) publish(ctx context.Context, publisher contender.Publisher, sent []time.Time) error {
	maker := contender.NewMaker(256)
	errs := make([]error, len(sent))
	var running sync.WaitGroup
	start := time.Now()
	for id := range sent {
		time.Sleep(time.Until(start.Add(time.Duration(id) * time.Second / time.Duration(l.perSecond))))
		running.Go(func() {
			m := maker.Make(id)
			sent[id] = time.Now()
			errs[id] = publisher.Publish(ctx, m)
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// idle is waiting for messages that do not come.
type idle struct{}

func (idle) run(ctx context.Context, lab *Lab, c contender.Contender) (_ Values, err error) {
	b, err := lab.open(ctx, c, testbedOptions{count: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	consumer, ok := b.queue.(contender.Consumer)
	if !ok {
		return nil, errCannot
	}
	stop, err := consumer.Consume(ctx, func(int) {})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	time.Sleep(lab.scale.Idle / 3) // until it has calmed down
	before := b.statements.Sent()
	start, err := lab.meter.Read(ctx)
	if err != nil {
		return nil, err
	}
	time.Sleep(lab.scale.Idle)
	cost, err := lab.meter.Since(ctx, start)
	sent := b.statements.Sent() - before
	if err := errors.Join(err, stop()); err != nil {
		return nil, err
	}
	seconds := cost.Elapsed.Seconds()
	return Values{
		result.Statements: float64(sent) / seconds,
		result.IdleClient: float64(cost.Client.Microseconds()) / 1000 / seconds,
		result.IdleServer: float64(cost.Server.Microseconds()) / 1000 / seconds,
	}, nil
}
