package pgmq

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// TuneOptions is what [Client.Tune] sets. The zero value is right for a busy queue.
type TuneOptions struct {
	// FillFactor is how full, in percent, PostgreSQL fills the pages of the queue.
	// A lease then finds room beside the message, which writes 13 to 30 % less WAL
	// and lets pages be used again. Defaults to 70; PostgreSQL's is 100, the least 10.
	FillFactor int

	// VacuumThreshold and VacuumScaleFactor are how many rows must have died until
	// autovacuum comes: the threshold, and that share of all rows. Each message
	// leaves two dead rows, over which every claim has to climb. Defaults to 1000
	// and 0.01; PostgreSQL's own are 50 and 0.2, which on a queue that was once
	// long lets it come too late.
	VacuumThreshold   int
	VacuumScaleFactor float64

	// VacuumCostDelay is how long autovacuum pauses each time it has done its share
	// of work. Defaults to 1 ms; PostgreSQL's is 2 ms, and the most 100 ms. It
	// applies to the archive, too, whose other settings stay as they are: its rows do
	// not change.
	VacuumCostDelay time.Duration
}

func (o *TuneOptions) withDefaults() error {
	o.FillFactor = cmp.Or(o.FillFactor, 70)
	o.VacuumThreshold = cmp.Or(o.VacuumThreshold, 1000)
	o.VacuumScaleFactor = cmp.Or(o.VacuumScaleFactor, 0.01)
	o.VacuumCostDelay = cmp.Or(o.VacuumCostDelay, time.Millisecond)
	for _, option := range []struct {
		name               string
		value, least, most float64
	}{
		{"FillFactor", float64(o.FillFactor), 10, 100},
		{"VacuumThreshold", float64(o.VacuumThreshold), 1, 1<<31 - 1},
		{"VacuumScaleFactor", o.VacuumScaleFactor, 0, 100},
	} {
		if !(option.value >= option.least && option.value <= option.most) { // NaN is refused too
			return &Error{
				Kind: ErrInvalidConfig, Cause: fmt.Errorf("%s is %v", option.name, option.value),
				Remedy: fmt.Sprintf("set it to 0 for the default, or between %v and %v", option.least, option.most),
			}
		}
	}
	if o.VacuumCostDelay < 0 || o.VacuumCostDelay > maxCostDelay {
		return &Error{
			Kind: ErrInvalidConfig, Cause: fmt.Errorf("VacuumCostDelay is %v", o.VacuumCostDelay),
			Remedy: fmt.Sprintf("set it to 0 for the default, or up to %v", maxCostDelay),
		}
	}
	return nil
}

// maxCostDelay is the most that PostgreSQL takes.
const maxCostDelay = 100 * time.Millisecond

// A partitioned table has no parameters of its own; its partitions do.
const tunedSQL = `
select c.relname::text from pg_class c
where c.relkind = 'r' and (c.oid = $1::text::regclass::oid
	or c.oid in (select relid::oid from pg_catalog.pg_partition_tree($1::text::regclass)))
order by 1`

func tuneTables(ctx context.Context, tx pgx.Tx, queue string, o TuneOptions) error {
	archive := fmt.Sprintf("autovacuum_vacuum_cost_delay = %v", float64(o.VacuumCostDelay)/float64(time.Millisecond))
	for _, part := range []struct{ table, parameters string }{
		{queuename.Table(queue), fmt.Sprintf("fillfactor = %d, autovacuum_vacuum_threshold = %d, autovacuum_vacuum_scale_factor = %v, %s",
			o.FillFactor, o.VacuumThreshold, o.VacuumScaleFactor, archive)},
		{queuename.Archive(queue), archive},
	} {
		rows, err := tx.Query(ctx, tunedSQL, pgx.QueryExecModeCacheDescribe, part.table)
		if err != nil {
			return err
		}
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, table := range tables {
			sql := fmt.Sprintf("alter table %s set (%s)", pgx.Identifier{"pgmq", table}.Sanitize(), part.parameters)
			if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeExec); err != nil {
				return err
			}
		}
	}
	return nil
}

// tune sets the storage parameters of a queue and its archive.
func tune(ctx context.Context, pool *pgxpool.Pool, queue string, options TuneOptions) error {
	if err := options.withDefaults(); err != nil {
		return err
	}
	err := transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
		return tuneTables(ctx, tx, queue, options)
	})
	if fault.IsCode(err, "42501") {
		err = &Error{
			Kind: ErrPermission, Cause: fault.WithoutSecrets(err),
			Remedy: fmt.Sprintf("connect as the owner of %s, which \\dt pgmq.q_* in psql tells", queuename.Table(queue)),
		}
	}
	return err
}
