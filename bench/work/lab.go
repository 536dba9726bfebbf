// Package work has what the contenders have to do, and sees that they do it.
package work

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/measure"
)

// Lab is where work is done. Each piece of work gets a new database, so that none inherits dead
// rows, statistics or caches from another.
type Lab struct {
	scale    Scale
	admin    *pgxpool.Pool
	meter    *measure.Meter
	template string
	config   *pgxpool.Config
	serial   atomic.Int64 // of the databases
}

// connections is the size of the pool that every contender gets: one for each of 32 goroutines.
const connections = 32

// NewLab prepares a server, whose database at url has PGMQ and becomes the template of all others:
// nobody else may use it.
func NewLab(ctx context.Context, url string, scale Scale) (*Lab, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("work: the URL of the database: %w", err)
	}
	l := &Lab{scale: scale, template: config.ConnConfig.Database, config: config}
	if err := l.migrate(ctx); err != nil {
		return nil, err
	}
	admin := config.Copy()
	admin.ConnConfig.Database = "postgres"
	admin.MaxConns = 2
	if l.admin, err = pgxpool.NewWithConfig(ctx, admin); err != nil {
		return nil, fmt.Errorf("work: %w", err)
	}
	l.meter, err = measure.NewMeter(ctx, l.admin)
	return l, err
}

func (l *Lab) migrate(ctx context.Context) error {
	pool, err := pgxpool.NewWithConfig(ctx, l.config.Copy())
	if err != nil {
		return fmt.Errorf("work: %w", err)
	}
	defer pool.Close()
	return contender.MigrateRiver(ctx, pool)
}

// Close closes what NewLab has opened.
func (l *Lab) Close() { l.admin.Close() }

// A bench is a contender at work: with a database, a pool and a queue of its own.
type bench struct {
	lab        *Lab
	database   string
	pool       *pgxpool.Pool
	contender  contender.Contender
	env        contender.Env
	queue      contender.Queue
	statements *measure.Statements // nil unless they are counted
}

type benchOptions struct {
	inFlight int
	count    bool // statements; that costs allocations
}

func (l *Lab) open(ctx context.Context, c contender.Contender, options benchOptions) (*bench, error) {
	b := &bench{lab: l, contender: c, database: fmt.Sprintf("%s_%d", l.template, l.serial.Add(1))}
	_, err := l.admin.Exec(ctx, "create database "+quote(b.database)+" template "+quote(l.template))
	if err != nil {
		return nil, fmt.Errorf("create a database: %w", err)
	}
	config := l.config.Copy()
	config.ConnConfig.Database = b.database
	config.MaxConns = connections
	if options.count {
		b.statements = new(measure.Statements)
		config.ConnConfig.Tracer = b.statements
	}
	if b.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("open a pool: %w", err), b.close(ctx))
	}
	b.env = contender.Env{Pool: b.pool, Topic: "bench", InFlight: options.inFlight}
	if b.queue, err = c.Open(ctx, b.env); err != nil {
		return nil, errors.Join(fmt.Errorf("open its queue: %w", err), b.close(ctx))
	}
	return b, nil
}

func (b *bench) close(ctx context.Context) error {
	var errs []error
	if b.queue != nil {
		errs = append(errs, b.queue.Close())
	}
	if b.pool != nil {
		b.pool.Close()
	}
	_, err := b.lab.admin.Exec(ctx, "drop database "+quote(b.database)+" with (force)")
	return errors.Join(append(errs, err)...)
}

// settle brings the tables into the state in which a server that has been running for a while
// keeps them, and collects our own garbage.
func (b *bench) settle(ctx context.Context) error {
	rows, err := b.pool.Query(ctx, `select format('%I.%I', nspname, relname) from pg_class join pg_namespace n
		on n.oid = relnamespace where relkind in ('r', 'p') and nspname in ('public', 'pgmq')`)
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	if _, err := b.pool.Exec(ctx, "vacuum (analyze) "+strings.Join(tables, ", ")); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	runtime.GC()
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
