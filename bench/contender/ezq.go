package contender

import (
	"context"
	"fmt"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
)

func ezqContenders() []Contender {
	return []Contender{
		{
			Name:     "ezq/pgmq",
			Settings: "Watermill's Publisher and Subscriber, defaults; MaxInFlight as many as are handled at a time",
			Open: func(ctx context.Context, env Env) (Queue, error) {
				client, err := openPGMQ(ctx, env)
				if err != nil {
					return nil, err
				}
				return &ezqQueue{watermillQueue{env, client, client, client.Close}}, nil
			},
		},
		{
			Name:     "ezq/pgmq router",
			Settings: "ezq.Router with a typed handler; Concurrency 100, or as many as are handled at a time",
			Open: func(ctx context.Context, env Env) (Queue, error) {
				client, err := openPGMQ(ctx, env)
				if err != nil {
					return nil, err
				}
				return &ezqRouter{ezqQueue{watermillQueue{env, client, client, client.Close}}, client}, nil
			},
		},
	}
}

func openPGMQ(ctx context.Context, env Env) (*pgmq.Client, error) {
	config := pgmq.Config{Logger: quiet()}
	config.Subscriber.MaxInFlight = env.InFlight
	client, err := pgmq.New(env.Pool, &config)
	if err != nil {
		return nil, err
	}
	_, err = env.Pool.Exec(ctx, "select pgmq.create($1)", env.Topic)
	return client, err
}

type ezqQueue struct{ watermillQueue }

// Waiting implements [Queue].
func (q *ezqQueue) Waiting(ctx context.Context) (Count, error) {
	return countPGMQ(ctx, q.env)
}

// Obstruct implements [Obstructor].
func (q *ezqQueue) Obstruct(ctx context.Context, what Obstruction, n int) error {
	return obstructPGMQ(ctx, q.env, what, n)
}

// countPGMQ and obstructPGMQ serve all contenders whose messages are in PGMQ's tables.
func countPGMQ(ctx context.Context, env Env) (Count, error) {
	return count(ctx, env.Pool, `select count(*), count(distinct message->>'ID') from pgmq.q_`+env.Topic+
		` where message ? 'ID'`)
}

func obstructPGMQ(ctx context.Context, env Env, what Obstruction, n int) error {
	table := "pgmq.q_" + env.Topic
	_, err := env.Pool.Exec(ctx, "insert into "+table+` (vt, message)
		select clock_timestamp() + $2::int * interval '1 day', '{"Text":"`+NewMaker(256).text+`"}'
		from generate_series(1, $1)`, n, map[Obstruction]int{Delayed: 1}[what])
	if err != nil || what == Delayed {
		return err
	}
	_, err = env.Pool.Exec(ctx, "update "+table+` set vt = clock_timestamp() + interval '1 day', read_ct = 1`)
	return err
}

type ezqRouter struct {
	ezqQueue
	client *pgmq.Client
}

// Publish implements [Publisher].
func (q *ezqRouter) Publish(ctx context.Context, m Message) error {
	return ezq.Publish(ctx, q.client, Event{m.ID, m.Text}, ezq.Topic(q.env.Topic))
}

// PublishOn implements [ConditionalPublisher].
func (q *ezqRouter) PublishOn(ctx context.Context, m Message, condition Condition, key string) error {
	option := map[Condition]func(string) ezq.PublishOption{Once: ezq.ID, Unique: ezq.Unique, Replace: ezq.Replace}[condition]
	return ezq.Publish(ctx, q.client, Event{m.ID, m.Text}, ezq.Topic(q.env.Topic), option(key))
}

// PublishBatch implements [BatchPublisher].
func (q *ezqRouter) PublishBatch(ctx context.Context, messages []Message) error {
	events := make([]Event, len(messages))
	for i, m := range messages {
		events[i] = Event{m.ID, m.Text}
	}
	return ezq.PublishBatch(ctx, q.client, events, ezq.Topic(q.env.Topic))
}

// Consume implements [Consumer].
func (q *ezqRouter) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	concurrency := q.env.InFlight
	if concurrency == 0 {
		concurrency = 100
	}
	router := ezq.NewRouter(q.client, &ezq.Config{Concurrency: concurrency, Logger: quiet()})
	return runRouter(ctx, router, q.env.Topic, handle)
}

func runRouter(ctx context.Context, router *ezq.Router, topic string, handle func(id int)) (func() error, error) {
	ezq.Handle(router, func(_ context.Context, e Event) error {
		handle(e.ID)
		return nil
	}, ezq.Topic(topic))
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var outcome error
	go func() {
		defer close(done)
		outcome = router.Run(ctx)
	}()
	return func() error {
		cancel()
		if err := await(done); err != nil {
			return err
		}
		if outcome != nil {
			return fmt.Errorf("the router: %w", outcome)
		}
		return nil
	}, nil
}
