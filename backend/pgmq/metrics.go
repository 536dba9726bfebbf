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
	// VACUUM has to remove. Both come from PostgreSQL's statistics, which lag a
	// second behind, and begin anew after a crash: then they are too small until
	// autovacuum has been there.
	Estimate int64
	DeadRows int64

	// VacuumedAt is when a VACUUM last ended. The zero Time if none has since the
	// statistics began. Many DeadRows long after it mean that it cannot keep up,
	// or that an old transaction keeps it from removing them.
	VacuumedAt time.Time
}

// measure looks at a queue. Its transaction has a setting, or none: "".
func measure(ctx context.Context, pool *pgxpool.Pool, queue QueueInfo, setting string) (QueueMetrics, error) {
	table := queuename.Table(queue.Name)
	sql := strings.ReplaceAll(sqlfile.Text(metricsSQL), "{table}", table)
	found := QueueMetrics{Queue: queue.Name, Topic: queue.Topic, Group: queue.Group}
	var lag int64
	var due, vacuumed *time.Time
	err := transact.Run(ctx, pool, setting, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, countLimit+1, table).Scan(
			&found.Visible, &found.Invisible, &lag, &due, &found.Estimate, &found.DeadRows, &vacuumed)
	})
	if err != nil {
		return QueueMetrics{}, err
	}
	found.VisibleCapped, found.InvisibleCapped = found.Visible > countLimit, found.Invisible > countLimit
	found.Visible, found.Invisible = min(found.Visible, countLimit), min(found.Invisible, countLimit)
	found.OldestVisible = time.Duration(lag) * time.Microsecond
	if due != nil {
		found.NextDue = *due
	}
	if vacuumed != nil {
		found.VacuumedAt = *vacuumed
	}
	return found, nil
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
