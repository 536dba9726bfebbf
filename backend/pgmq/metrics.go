package pgmq

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/metrics.sql
var metricsSQL string

// countLimit is how far [Client.Metrics] counts.
const countLimit = 10_000

// QueueMetrics is how a queue was doing at one moment, by the clock of PostgreSQL.
type QueueMetrics struct {
	Queue string // see [QueueName]

	// Topic and Group say whose messages it holds: see [QueueInfo].
	Topic, Group string

	// Visible is how many messages wait for a consumer, or are locked by one (see
	// SubscriberConfig.LeaseOnly). It is counted up to 10,000; VisibleCapped says that
	// there are more.
	Visible       int
	VisibleCapped bool

	// Invisible is how many messages are leased, delayed, or wait after a nack,
	// counted in the same way. The table does not tell which of these they are.
	Invisible       int
	InvisibleCapped bool

	// OldestVisible is how long the message has been visible that has waited
	// longest: the lag of the consumers. 0 if none is visible.
	OldestVisible time.Duration

	// NextDue is when the next message becomes visible of those that are not: a
	// delay or a lease ends. The zero Time if there is none.
	NextDue time.Time

	// Estimate is about how many messages there are, and DeadRows how many rows
	// VACUUM has to remove. Both come from PostgreSQL's statistics. A connection that
	// is busy adds to these once a second, and one that rests after 10 seconds, or before
	// PostgreSQL 15 with its next statement. They begin anew after a crash: then both are
	// too small until autovacuum has been there.
	Estimate int64
	DeadRows int64

	// Inserted and Deleted are how many rows were ever inserted and deleted, by the same statistics: the difference of two moments is what
	// came and went between them.
	Inserted, Deleted int64

	// VacuumedAt is when a VACUUM last ended. The zero Time if none has since the
	// statistics began. Many DeadRows long after it mean that it cannot keep up,
	// or that an old transaction keeps it from removing them.
	VacuumedAt time.Time
}

// metricsStatement returns the statement that looks at a queue.
func metricsStatement(queue string) string {
	table := queuename.Table(queue)
	return strings.NewReplacer("{table}", table, "{relation}", sqlfile.Literal(table)+"::text").Replace(sqlfile.Text(metricsSQL))
}

// measurement is a row of metrics.sql.
type measurement struct {
	visible, invisible, lag           int64
	due, vacuumed                     *time.Time
	estimate, dead, inserted, deleted int64
}

// targets are what a row is scanned to.
func (m *measurement) targets() []any {
	return []any{&m.visible, &m.invisible, &m.lag, &m.due, &m.estimate, &m.dead, &m.inserted, &m.deleted, &m.vacuumed}
}

// of returns the metrics of the queue that was looked at.
func (m *measurement) of(queue QueueInfo) QueueMetrics {
	found := QueueMetrics{
		Queue: queue.Name, Topic: queue.Topic, Group: queue.Group,
		Visible: int(min(m.visible, countLimit)), VisibleCapped: m.visible > countLimit,
		Invisible: int(min(m.invisible, countLimit)), InvisibleCapped: m.invisible > countLimit,
		OldestVisible: time.Duration(m.lag) * time.Microsecond,
		Estimate:      m.estimate, DeadRows: m.dead, Inserted: m.inserted, Deleted: m.deleted,
	}
	if m.due != nil {
		found.NextDue = *m.due
	}
	if m.vacuumed != nil {
		found.VacuumedAt = *m.vacuumed
	}
	return found
}

// measure looks at a queue. Its transaction has a setting, or none: "".
func measure(ctx context.Context, pool *pgxpool.Pool, queue QueueInfo, setting string) (QueueMetrics, error) {
	var found measurement
	err := transact.Run(ctx, pool, setting, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, metricsStatement(queue.Name), pgx.QueryExecModeCacheDescribe, countLimit+1).Scan(found.targets()...)
	})
	if err != nil {
		return QueueMetrics{}, err
	}
	return found.of(queue), nil
}

//go:embed sql/unlisted.sql
var unlistedSQL string

// unlistedError returns an error if there are tables of queues that pgmq.meta does not list, as after a restore of the
// schema alone.
func unlistedError(ctx context.Context, pool *pgxpool.Pool) error {
	names, err := transact.Value[[]string](ctx, pool, sqlfile.Text(unlistedSQL))
	if err != nil || len(names) == 0 {
		return err
	}
	const most = 3
	shown := make([]string, 0, most+1)
	for _, name := range names[:min(len(names), most)] {
		shown = append(shown, strconv.Quote(name))
	}
	create := fmt.Sprintf("SELECT pgmq.create(%s)", sqlfile.Literal(names[0]))
	if len(names) > 1 {
		create += " and so on"
	}
	if len(names) > most {
		shown = append(shown, "…")
	}
	return &Error{
		Cause: fmt.Errorf("%d tables of queues have no row in pgmq.meta, and are not listed: %s", len(names), strings.Join(shown, ", ")),
		Remedy: "restore the rows of pgmq.meta, which a dump of the schema alone leaves out; or let their owner run " + create +
			", which adds the row and leaves the messages",
	}
}

// measureAll looks at queues, without waiting long for those that are locked.
func measureAll(ctx context.Context, pool *pgxpool.Pool, queues []QueueInfo) ([]QueueMetrics, error) {
	var all []QueueMetrics
	var failures []error
	for _, queue := range queues {
		switch found, err := measure(ctx, pool, queue, "lock_timeout = '500ms'"); {
		case fault.IsCode(err, "42P01"): // it was dropped meanwhile
		case err != nil:
			failures = append(failures, fault.Classify("measure", queue.Name, err))
		default:
			all = append(all, found)
		}
	}
	if err := unlistedError(ctx, pool); err != nil {
		failures = append(failures, fault.Classify("list queues", "", err))
	}
	return all, errors.Join(failures...)
}
