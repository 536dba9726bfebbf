package search

import (
	"context"
	_ "embed"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// change is what to do with what waits in a table.
type change struct {
	sql        string // which rows it is for, change.sql says
	privileges string
	arguments  []any // from $10 on
	running    bool  // it is also for what consumers may have
	after      func(queue string, done changed)
}

// changed is what a change has done: to messages that waited, and to those that consumers may have; and how many stay.
type changed struct{ waiting, running, busy int }

func (c changed) plus(other changed) changed {
	return changed{c.waiting + other.waiting, c.running + other.running, c.busy + other.busy}
}

// run changes what waits in each queue of topic, one after the other.
func (c change) run(ctx context.Context, s Search, op, topic string, selection backend.Selection) (total changed, err error) {
	err = s.each(ctx, op, topic, selection, false, func(chosen choice, t table) (missed, error) {
		one, left, err := c.runOn(ctx, s, chosen, t)
		total = total.plus(one)
		if c.after != nil {
			c.after(t.queue, one)
		}
		return left, err
	})
	return total, err
}

//go:embed sql/change.sql
var changeSQL string

// runOn changes what waits in one table.
func (c change) runOn(ctx context.Context, s Search, chosen choice, t table) (one changed, left missed, err error) {
	if err := t.check(c.privileges); err != nil {
		return changed{}, missed{}, err
	}
	args := append(chosen.arguments(t, s.MaxRows), c.arguments...)
	left.slow, err = s.look(ctx, chosen, func(chosen choice, tx pgx.Tx) error {
		return tx.QueryRow(ctx, chosen.statement(changeSQL, t, "{change}", c.sql, "{running}", strconv.FormatBool(c.running)), append([]any{pgx.QueryExecModeCacheDescribe}, args...)...).
			Scan(&one.waiting, &one.running, &one.busy, &left.rest, &left.large)
	})
	if fault.IsCode(err, "42501") { // insufficient_privilege
		err = t.denied(c.privileges, fault.WithoutSecrets(err))
	}
	if err != nil {
		return changed{}, missed{}, fault.Changed(err, one.waiting+one.running)
	}
	return one, left, nil
}
