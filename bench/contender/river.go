package contender

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

func riverContenders() []Contender {
	return []Contender{
		{
			Name:     "River, default",
			Settings: "100 workers as in its examples, cooldown 100 ms (default)",
			Open: func(_ context.Context, env Env) (Queue, error) {
				return openRiver(env, river.QueueConfig{MaxWorkers: 100})
			},
		},
		{
			Name:     "River, best",
			Settings: "2,000 workers, or as many as are handled at a time; cooldown 1 ms, looks every 50 ms",
			Open: func(_ context.Context, env Env) (Queue, error) {
				workers := 2000
				if env.InFlight > 0 {
					workers = env.InFlight
				}
				return openRiver(env, river.QueueConfig{
					MaxWorkers: workers, FetchCooldown: time.Millisecond, FetchPollInterval: 50 * time.Millisecond,
				})
			},
		},
	}
}

// MigrateRiver creates River's tables.
func MigrateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet()})
	if err != nil {
		return fmt.Errorf("contender: River's migrations: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("contender: River's migrations: %w", err)
	}
	return nil
}

func openRiver(env Env, config river.QueueConfig) (Queue, error) {
	inserter, err := river.NewClient(riverpgxv5.New(env.Pool), &river.Config{Logger: quiet()})
	return &riverQueue{env, config, inserter}, err
}

type riverQueue struct {
	env      Env
	config   river.QueueConfig
	inserter *river.Client[pgx.Tx]
}

func (q *riverQueue) options() *river.InsertOpts { return &river.InsertOpts{Queue: q.env.Topic} }

// Publish implements [Publisher].
func (q *riverQueue) Publish(ctx context.Context, m Message) error {
	_, err := q.inserter.Insert(ctx, Event{m.ID, m.Text}, q.options())
	return err
}

// PublishOn implements [ConditionalPublisher]. River has unique jobs only.
func (q *riverQueue) PublishOn(ctx context.Context, m Message, condition Condition, key string) error {
	if condition != Unique {
		return errors.ErrUnsupported
	}
	options := q.options()
	options.UniqueOpts = river.UniqueOpts{ByArgs: true}
	_, err := q.inserter.Insert(ctx, keyedEvent{Event{m.ID, m.Text}, key}, options)
	return err
}

// PublishBatch implements [BatchPublisher].
func (q *riverQueue) PublishBatch(ctx context.Context, messages []Message) error {
	params := make([]river.InsertManyParams, len(messages))
	for i, m := range messages {
		params[i] = river.InsertManyParams{Args: Event{m.ID, m.Text}, InsertOpts: q.options()}
	}
	_, err := q.inserter.InsertManyFast(ctx, params)
	return err
}

// Consume implements [Consumer].
func (q *riverQueue) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(_ context.Context, job *river.Job[Event]) error {
		handle(job.Args.ID)
		return nil
	}))
	client, err := river.NewClient(riverpgxv5.New(q.env.Pool), &river.Config{
		Queues:  map[string]river.QueueConfig{q.env.Topic: q.config},
		Workers: workers,
		Logger:  quiet(),
	})
	if err != nil {
		return nil, err
	}
	if err := client.Start(ctx); err != nil {
		return nil, err
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return client.Stop(ctx)
	}, nil
}

// Waiting implements [Queue].
func (q *riverQueue) Waiting(ctx context.Context) (Count, error) {
	return count(ctx, q.env.Pool, `select count(*), count(distinct args->>'ID') from river_job
		where state <> 'completed' and args ? 'ID'`)
}

// Obstruct implements [Obstructor].
func (q *riverQueue) Obstruct(ctx context.Context, what Obstruction, n int) error {
	state, due := "running", "interval '0'"
	if what == Delayed {
		state, due = "scheduled", "interval '1 day'"
	}
	_, err := q.env.Pool.Exec(ctx, `insert into river_job (state, kind, queue, args, max_attempts, attempted_at, scheduled_at)
		select '`+state+`', $2, $3, '{"Text":"`+NewMaker(256).text+`"}', 25, now(), now() + `+due+`
		from generate_series(1, $1)`, n, eventName, q.env.Topic)
	return err
}

// Close implements [Queue].
func (q *riverQueue) Close() error { return nil }
