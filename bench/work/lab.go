// Package work has what the contenders have to do, and sees that they do it.
package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/measure"
	"github.com/ezq-go/ezq/bench/result"
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
// no other program may use it.
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

// A testbed is a contender at work: with a database, a pool and a queue of its own.
type testbed struct {
	lab        *Lab
	database   string
	pool       *pgxpool.Pool
	contender  contender.Contender
	env        contender.Env
	queue      contender.Queue
	statements *measure.Statements // nil unless they are counted
}

type testbedOptions struct {
	inFlight int
	count    bool // statements; that costs allocations
}

func (l *Lab) open(ctx context.Context, c contender.Contender, options testbedOptions) (*testbed, error) {
	b := &testbed{lab: l, contender: c, database: fmt.Sprintf("%s_%d", l.template, l.serial.Add(1))}
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

// Run has all contenders do the work, round by round. In each round all take their turn, in another
// order than in the round before, so that what drifts meets all alike. It reports to progress.
func (l *Lab) Run(ctx context.Context, works []Work, progress io.Writer) ([]result.Work, error) {
	byName := make(map[string]contender.Contender)
	for _, c := range contender.All() {
		byName[c.Name] = c
	}
	var results []result.Work
	for _, w := range works {
		measured, err := l.one(ctx, w, byName, progress)
		if err != nil {
			return results, err
		}
		results = append(results, measured)
	}
	return results, nil
}

func (l *Lab) one(
	ctx context.Context, w Work, byName map[string]contender.Contender, progress io.Writer,
) (result.Work, error) {
	measured := result.Work{Name: w.Name, Title: w.Title, Metric: w.Metric, Reference: w.Reference}
	for _, e := range w.Entrants {
		c, ok := byName[e.Contender]
		if !ok {
			return measured, fmt.Errorf("work: %s: there is no contender %q", w.Name, e.Contender)
		}
		measured.Outcomes = append(measured.Outcomes, result.Outcome{Entrant: e.Name, Settings: c.Settings})
	}
	for round := range l.scale.Rounds {
		for _, i := range order(len(w.Entrants), round) {
			e := w.Entrants[i]
			sample := result.Sample{Round: round, Load: load()}
			values, err := e.task.run(ctx, l, byName[e.Contender])
			if ctx.Err() != nil {
				return measured, ctx.Err()
			}
			sample.Values = values
			if err != nil {
				sample.Values, sample.Problem = nil, err.Error()
			}
			measured.Outcomes[i].Samples = append(measured.Outcomes[i].Samples, sample)
			_, _ = fmt.Fprintf(progress, "%s %s round %d, %s: %s\n",
				time.Now().Format(time.TimeOnly), w.Name, round+1, e.Name, describe(sample, w.Metric))
		}
	}
	return measured, nil
}

func (b *testbed) close(ctx context.Context) error {
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

// vacuum brings the tables into the state in which a server that has been running for a while
// keeps them, and collects our own garbage.
func (b *testbed) vacuum(ctx context.Context) error {
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

// consume starts n consumers of the queue, as n processes have them: each but the first is opened
// anew. They share only the clients' CPU, as they would on one machine.
func (b *testbed) consume(ctx context.Context, n int, handle func(id int)) (stop func() error, err error) {
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

func (b *testbed) executeOnQueue(ctx context.Context, statements []string) error {
	names := strings.NewReplacer("{queue}", "pgmq.q_"+b.env.Topic, "{text}", strings.Repeat("x", 200))
	for _, sql := range statements {
		if _, err := b.pool.Exec(ctx, names.Replace(sql)); err != nil {
			return fmt.Errorf("make the statistics: %w", err)
		}
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
