package work

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/result"
)

// statistics is what PostgreSQL knows about a queue of PGMQ, which it plans by: what was in the
// queue when ANALYZE looked last. It does not look again: autovacuum is off for the queue.
type statistics string

// The statistics. All but the first are out of date when the work begins, as those of a queue are
// most of the time.
const (
	fresh      statistics = "fresh"
	never      statistics = "never analysed"
	whenEmpty  statistics = "of when it was empty"
	allLeased  statistics = "of when all was leased"
	allDelayed statistics = "of when all was delayed"
)

func everyStatistics() []statistics {
	return []statistics{fresh, never, whenEmpty, allLeased, allDelayed}
}

// before returns what has happened to the queue before it is filled with n messages. What is left
// of that is not due.
func (s statistics) before(n int) []string {
	const leave = `insert into {queue} (vt, message) select now() + interval '1 day', '{"Text":"{text}"}' from generate_series(1, `
	switch s {
	case whenEmpty: // but for one message, which keeps the file as large as it was
		return []string{
			strings.Replace(leave, "now() + interval '1 day'", "now()", 1) + fmt.Sprint(n) + ")", leave + "1)",
			"delete from {queue} where vt <= now()", "vacuum analyze {queue}",
		}
	case allLeased:
		return []string{
			leave + "10000)", "update {queue} set vt = clock_timestamp() + interval '1 day', read_ct = 1", "vacuum analyze {queue}",
		}
	case allDelayed:
		return []string{leave + "10000)", "vacuum analyze {queue}"}
	}
	return nil
}

// after returns what happens once it is filled.
func (s statistics) after() []string {
	if s == fresh {
		return []string{"analyze {queue}"}
	}
	return nil
}

// prepare gives the queue a history that ends with its statistics, and fills it.
func (s statistics) prepare(ctx context.Context, b *testbed, n int, fill func() error) error {
	before := append([]string{"alter table {queue} set (autovacuum_enabled = false)"}, s.before(n)...)
	if err := b.executeOnQueue(ctx, before); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	runtime.GC()
	return b.executeOnQueue(ctx, s.after())
}

// traffic is publishing batches of 500 while what is published is being handled, on a queue with
// those statistics.
type traffic struct {
	n          int
	statistics statistics
}

func (t traffic) run(ctx context.Context, lab *Lab, c contender.Contender) (_ Values, err error) {
	b, err := lab.open(ctx, c, testbedOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	publisher, ok := b.queue.(contender.BatchPublisher)
	if !ok {
		return nil, errCannot
	}
	if err := t.statistics.prepare(ctx, b, t.n, func() error { return nil }); err != nil {
		return nil, err
	}
	tally, maker := newLedger(t.n, t.n), contender.NewMaker(256)
	start, err := lab.meter.Read(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := b.consume(ctx, 1, tally.mark)
	if err != nil {
		return nil, err
	}
	if err := publishAll(ctx, publisher, maker, t.n, 500); err != nil {
		return nil, errors.Join(err, stop())
	}
	within(4*lab.scale.Limit, tally.reached)
	cost, err := lab.meter.Since(ctx, start)
	handled := tally.distinct.Load()
	if err := errors.Join(err, stop()); err != nil {
		return nil, err
	}
	left, err := b.queue.Waiting(ctx)
	if err := errors.Join(err, tally.check(left)); err != nil {
		return nil, err
	}
	if handled == 0 {
		return nil, errors.New("handled nothing")
	}
	return perMessage(cost, float64(handled)), nil
}

// publishAll publishes n messages in batches.
func publishAll(ctx context.Context, publisher contender.BatchPublisher, maker contender.Maker, n, batch int) error {
	for id := 0; id < n; {
		messages := make([]contender.Message, min(batch, n-id))
		for i := range messages {
			messages[i] = maker.Make(id + i)
		}
		if err := publisher.PublishBatch(ctx, messages); err != nil {
			return fmt.Errorf("fill the queue: %w", err)
		}
		id += len(messages)
	}
	return nil
}

// stale is the same work over statistics of several kinds.
func stale(scale Scale) []Work {
	var titles []string
	var drains, traffics []task
	for _, s := range everyStatistics() {
		titles = append(titles, string(s))
		drains = append(drains, drain{fill: scale.Stale, size: 256, statistics: s})
		traffics = append(traffics, traffic{n: 3 * scale.Drain, statistics: s})
	}
	return []Work{
		{
			Name:   "stale",
			Title:  fmt.Sprintf("Drain a queue of %d messages for a while, over what PostgreSQL's statistics say about it", scale.Stale),
			Metric: result.Rate, Reference: ezqChannel + ": " + string(fresh),
			Entrants: each([]string{ezqChannel}, titles, drains),
		},
		{
			Name:   "stale-traffic",
			Title:  "Publish batches of 500 and handle them at once, over what PostgreSQL's statistics say about the queue",
			Metric: result.Rate, Reference: ezqChannel + ": " + string(fresh),
			Entrants: each([]string{ezqChannel}, titles, traffics),
		},
	}
}
