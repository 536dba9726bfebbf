package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// QueueKind is how PostgreSQL keeps the messages of a queue.
type QueueKind uint8

const (
	// QueuePlain queues keep their messages in a crash of the server, and on its standbys.
	QueuePlain QueueKind = iota

	// QueueUnlogged queues lose their messages in a crash, and when a standby takes over.
	// Publishing writes no WAL. The archive is logged all the same.
	QueueUnlogged

	// QueuePartitioned queues have their messages in tables of PartitionInterval each, of which
	// pg_partman drops the old ones. It also drops unhandled messages: use it
	// for messages that are worthless after a while.
	QueuePartitioned
)

// String returns the name of the kind in lower case.
func (k QueueKind) String() string {
	switch k {
	case QueuePlain:
		return "plain"
	case QueueUnlogged:
		return "unlogged"
	case QueuePartitioned:
		return "partitioned"
	}
	return fmt.Sprintf("QueueKind(%d)", uint8(k))
}

// QueueOptions says what queue to create. The zero value is what Publish and
// Subscribe create.
type QueueOptions struct {
	Kind QueueKind

	// PartitionInterval is how many messages are in a partition: each has those
	// with that many consecutive ids. Defaults to 10,000; the most is 999,999,999.
	//
	// PGMQ also takes a length of time, and ezq does not: the partitions have no
	// common index of ids then, and settling a message looks at all of them.
	PartitionInterval int

	// RetentionInterval is how many ids behind the latest a message may be before
	// its partition is dropped. Defaults to 100,000; the most is 999,999,999.
	RetentionInterval int
}

// maxInterval keeps the ids of partitions far from the end of a bigint.
const maxInterval = 999_999_999

func (o *QueueOptions) check() error {
	for _, interval := range []struct {
		name      string
		value     *int
		byDefault int
	}{
		{"PartitionInterval", &o.PartitionInterval, 10_000},
		{"RetentionInterval", &o.RetentionInterval, 100_000},
	} {
		*interval.value = cmp.Or(*interval.value, interval.byDefault)
		if *interval.value < 1 || *interval.value > maxInterval {
			return &Error{
				Kind: ErrInvalidConfig, Cause: fmt.Errorf("%s is %d", interval.name, *interval.value),
				Remedy: fmt.Sprintf("set it to 0 for the default, or to a number of messages up to %d", maxInterval),
			}
		}
	}
	if o.Kind > QueuePartitioned {
		return &Error{Kind: ErrInvalidConfig, Cause: fmt.Errorf("the Kind is %v", o.Kind), Remedy: "set it to QueuePlain, QueueUnlogged or QueuePartitioned"}
	}
	return nil
}

func createDenied(err error) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	return &Error{
		Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
		Remedy: "let its owner run GRANT USAGE, CREATE ON SCHEMA pgmq TO the role; GRANT SELECT, INSERT ON pgmq.meta TO the role",
	}
}

// kindSQL is an expression on pg_class c.
const kindSQL = "case when c.relkind = 'p' then 2 when c.relpersistence = 'u' then 1 else 0 end"

func dropFailed(err error, queue string) error {
	switch {
	case fault.IsCode(err, "55P03"): // lock_not_available
		return &Error{Cause: fault.WithoutSecrets(err), Remedy: "stop the transactions that use the queue: see pg_stat_activity"}
	case fault.IsCode(err, "42501"):
		return &Error{
			Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
			Remedy: fmt.Sprintf("connect as the owner of %s, with DELETE on pgmq.meta", queuename.Table(queue)),
		}
	}
	return err
}

// QueueInfo is a queue of PGMQ.
type QueueInfo struct {
	Name string // as in [QueueName]; its table is pgmq.q_<Name>

	// Topic and Group say whose messages it holds, as the publish that has created it, or the
	// first subscription, has noted in a comment on its table. Without that the topic is the name of the queue, or ""
	// where that was made from another one.
	Topic, Group string

	Kind      QueueKind
	CreatedAt time.Time // 1970 if it was set to infinity
}

// createQueue creates a queue, unless there is one of that kind.
func createQueue(ctx context.Context, pool *pgxpool.Pool, queue string, options QueueOptions) error {
	if err := options.check(); err != nil {
		return err
	}
	if _, err := catalog.Probe(ctx, pool, queue); err != nil { // is PGMQ there?
		return err
	}
	found, err := kindOf(ctx, pool, queue)
	if errors.Is(err, pgx.ErrNoRows) {
		failed := options.create(ctx, pool, queue)
		// Another client may have been faster, which is no error.
		if found, err = kindOf(ctx, pool, queue); err != nil {
			err = createDenied(cmp.Or(failed, err))
		}
	}
	if err == nil && found != options.Kind {
		err = &Error{
			Kind: ErrInvalidConfig, Cause: fmt.Errorf("the queue %q exists, and is %v", queue, found),
			Remedy: "drop it first, which loses its messages and its archive",
		}
	}
	return err
}

// create creates a queue with PGMQ's own function.
//
// A partitioned queue gets the index on vt that all others have and PGMQ 1.13 does
// not create: without it, each claim sorts all messages.
func (o *QueueOptions) create(ctx context.Context, pool *pgxpool.Pool, queue string) error {
	switch o.Kind {
	case QueuePlain:
		return catalog.CreatePlain(ctx, pool, queue)
	case QueueUnlogged:
		return catalog.CreateUnlogged(ctx, pool, queue)
	}
	if err := requirePartman(ctx, pool); err != nil {
		return err
	}
	return transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, catalog.OwnPathSQL); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "select pgmq.create_partitioned($1::text, $2::text, $3::text)",
			pgx.QueryExecModeCacheDescribe, queue, strconv.Itoa(o.PartitionInterval), strconv.Itoa(o.RetentionInterval))
		if err != nil {
			return err
		}
		index := pgx.Identifier{"q_" + queue + "_vt_idx"}.Sanitize()
		_, err = tx.Exec(ctx, fmt.Sprintf("create index if not exists %s on %s (vt)", index, queuename.Table(queue)),
			pgx.QueryExecModeExec)
		return err
	})
}

func requirePartman(ctx context.Context, pool *pgxpool.Pool) error {
	installed, err := transact.Value[bool](ctx, pool, "select exists (select from pg_extension where extname = 'pg_partman')")
	if err != nil || installed {
		return err
	}
	return &Error{
		Cause:  fmt.Errorf("partitioned queues need the extension pg_partman, which this database does not have: %w", errors.ErrUnsupported),
		Remedy: "install it and run CREATE EXTENSION pg_partman, or create a plain queue",
	}
}

// kindOf returns [pgx.ErrNoRows] if there is no such queue.
func kindOf(ctx context.Context, pool *pgxpool.Pool, queue string) (QueueKind, error) {
	kind, err := transact.Value[int32](ctx, pool, "select "+kindSQL+" from pg_class c where c.oid = pg_catalog.to_regclass($1)::oid", queuename.Table(queue))
	return QueueKind(kind), err //nolint:gosec // 0 to 2
}

// dropQueue deletes a queue, and reports whether there was one.
func dropQueue(ctx context.Context, pool *pgxpool.Pool, queue string) (existed bool, err error) {
	if _, err := catalog.Probe(ctx, pool, "ezq"); err != nil { // is the function PGMQ's?
		return false, err
	}
	if _, err = kindOf(ctx, pool, queue); err == nil {
		err = transact.Run(ctx, pool, "lock_timeout = '5s'", func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, catalog.OwnPathSQL); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "select pgmq.drop_queue($1::text)", pgx.QueryExecModeCacheDescribe, queue).Scan(&existed)
		})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return existed && err == nil, dropFailed(err, queue)
}

// listQueues returns all queues, in the order of their names.
func listQueues(ctx context.Context, pool *pgxpool.Pool) ([]QueueInfo, error) {
	rows, err := pool.Query(ctx, queuesSQL(), pgx.QueryExecModeCacheDescribe)
	if err != nil {
		return nil, err
	}
	queues, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (info QueueInfo, err error) {
		var kind int32
		var label string
		err = r.Scan(&info.Name, &kind, &info.CreatedAt, &label)
		info.Topic, info.Group = catalog.ReadLabel(info.Name, label)
		info.Kind = QueueKind(kind) //nolint:gosec // 0 to 2
		return info, err
	})
	return queues, err
}

// PGMQ writes a queue's name in lower case where it names its table, but not in
// meta. There, Orders and orders are two; and if one is dropped, the other is left
// without a table (PGMQ 1.11.1). The cast cuts a name as PostgreSQL does.
func queuesSQL() string {
	return `
select distinct on (c.relname) pg_catalog.substr(c.relname, 3), ` + kindSQL + `, ` + statement.Finite("m.created_at") + `, ` + catalog.LabelSQL() + `
from pgmq.meta m
join pg_class c on c.relname = ('q_' || pg_catalog.lower(m.queue_name))::name
where c.relnamespace = 'pgmq'::regnamespace::oid and c.relkind in ('r', 'p')
order by c.relname, m.created_at`
}
