package contender

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// PGMQ's own functions, through pgx, as a program would call them that has no library.
func pgmqContenders() []Contender {
	var contenders []Contender
	for _, c := range []struct {
		name, settings, read string
		batch                int
	}{
		{
			"pgmq functions, 100", "send, send_batch, read 100, delete (array); read_with_poll as PGMQ has it: every 100 ms",
			"select msg_id, message from pgmq.read_with_poll($1, 30, $2, 5, 100)", 100,
		},
		{
			"pgmq functions, 1000", "the same with read 1,000; read_with_poll every 10 ms",
			"select msg_id, message from pgmq.read_with_poll($1, 30, $2, 5, 10)", 1000,
		},
	} {
		contenders = append(contenders, Contender{
			Name: c.name, Settings: c.settings,
			Open: func(ctx context.Context, env Env) (Queue, error) {
				q := &sqlQueue{
					env: env, batch: max(c.batch, env.InFlight), interruptible: true,
					send:   "select pgmq.send('" + env.Topic + "', $1::jsonb)",
					many:   "select pgmq.send_batch('" + env.Topic + "', $1::jsonb[])",
					remove: "select pgmq.delete('" + env.Topic + "', $1::bigint[])",
				}
				q.claim = func(ctx context.Context) (pgx.Rows, error) {
					return env.Pool.Query(ctx, c.read, env.Topic, q.batch)
				}
				_, err := env.Pool.Exec(ctx, "select pgmq.create($1)", env.Topic)
				return q, err
			},
		})
	}
	return contenders
}

// Hand-written SQL on PGMQ's tables: the least that the work can cost. It extends no leases, fences
// no acks, and knows no failures.
func floorContenders() []Contender {
	var contenders []Contender
	for _, batch := range []int{100, 1000} {
		contenders = append(contenders, Contender{
			Name:     fmt.Sprintf("SQL floor, %d", batch),
			Settings: fmt.Sprintf("prepared INSERT, INSERT … unnest; claim %d + delete by ids, planned each time", batch),
			Open: func(ctx context.Context, env Env) (Queue, error) {
				return openFloor(ctx, env, max(batch, env.InFlight), true)
			},
		})
	}
	return append(contenders, Contender{
		Name:     "SQL floor, no leases",
		Settings: "DELETE … RETURNING 1,000: what is handled when it crashes is lost",
		Open: func(ctx context.Context, env Env) (Queue, error) {
			return openFloor(ctx, env, max(1000, env.InFlight), false)
		},
	})
}

// Hand-written SQL on the same tables, for publishing on conditions: the least that a condition can cost. A unique index
// decides on keys, so what is being handled is in the way of what would replace it, and a handler's lock too.
func conditionalFloor() Contender {
	return Contender{
		Name:     "SQL floor, conditions",
		Settings: "prepared INSERT … ON CONFLICT; a table of IDs; a unique index of keys",
		Open: func(ctx context.Context, env Env) (Queue, error) {
			queue, err := openFloor(ctx, env, 100, true)
			if err != nil {
				return nil, err
			}
			table := "pgmq.q_" + env.Topic
			const key, hasKey = "(pg_catalog.left(headers->>'ezq_unique'::text, 400))", " where pg_catalog.jsonb_typeof(headers->'ezq_unique'::text) = 'string'"
			keyed := "insert into " + table + " (vt, message, headers) values (clock_timestamp(), $1::jsonb, jsonb_build_object('ezq_unique', $2::text)) on conflict " + key + hasKey
			_, err = env.Pool.Exec(ctx, "create table pgmq.floor_ids (key bytea primary key, until timestamptz not null); create index on pgmq.floor_ids (until); create unique index on "+table+" "+key+hasKey)
			return &conditionalQueue{queue.(*sqlQueue), map[Condition]string{ //nolint:forcetypeassert // openFloor makes one
				Once: `with fresh as (insert into pgmq.floor_ids values (sha256($2::text::bytea), now() + interval '1 day') on conflict do nothing returning 1)
					insert into ` + table + ` (vt, message) select clock_timestamp(), $1::jsonb from fresh`,
				Unique:  keyed + " do nothing",
				Replace: keyed + " do update set message = excluded.message, headers = excluded.headers",
			}}, err
		},
	}
}

type conditionalQueue struct {
	*sqlQueue
	on map[Condition]string
}

// PublishOn implements [ConditionalPublisher].
func (q *conditionalQueue) PublishOn(ctx context.Context, m Message, condition Condition, key string) error {
	_, err := q.env.Pool.Exec(ctx, q.on[condition], m.Body, key)
	return err
}

func openFloor(ctx context.Context, env Env, batch int, leases bool) (Queue, error) {
	table := "pgmq.q_" + env.Topic
	q := &sqlQueue{
		env: env, batch: batch,
		send:   "insert into " + table + " (vt, message) values (clock_timestamp(), $1::jsonb)",
		many:   "insert into " + table + " (vt, message) select clock_timestamp(), m from unnest($1::jsonb[]) m",
		remove: "delete from " + table + " where msg_id = any($1::bigint[])",
	}
	due := "select msg_id from " + table + ` where vt <= statement_timestamp()
		order by vt, msg_id limit $1 for update skip locked`
	claim := "with due as materialized (" + due + ") update " + table + ` q set vt = clock_timestamp() + interval '30 s',
		read_ct = read_ct + 1, last_read_at = clock_timestamp() from due where q.msg_id = due.msg_id returning q.msg_id, q.message`
	if !leases {
		q.remove = ""
		claim = "with due as materialized (" + due + ") delete from " + table + ` q using due
			where q.msg_id = due.msg_id returning q.msg_id, q.message`
	}
	q.claim = func(ctx context.Context) (pgx.Rows, error) {
		return env.Pool.Query(ctx, claim, pgx.QueryExecModeCacheDescribe, q.batch)
	}
	_, err := env.Pool.Exec(ctx, "select pgmq.create($1)", env.Topic)
	return q, err
}

// sqlQueue is a loop of statements: claim, handle, delete.
type sqlQueue struct {
	env                Env
	batch              int
	send, many, remove string
	claim              func(ctx context.Context) (pgx.Rows, error)

	// interruptible says that a claim may be cut off: what it has taken stays in the queue. One
	// that waits for messages in the server would hold up the end of the work otherwise.
	interruptible bool
}

// Publish implements [Publisher].
func (q *sqlQueue) Publish(ctx context.Context, m Message) error {
	_, err := q.env.Pool.Exec(ctx, q.send, m.Body)
	return err
}

// PublishBatch implements [BatchPublisher].
func (q *sqlQueue) PublishBatch(ctx context.Context, messages []Message) error {
	bodies := make([][]byte, len(messages))
	for i, m := range messages {
		bodies[i] = m.Body
	}
	_, err := q.env.Pool.Exec(ctx, q.many, bodies)
	return err
}

// Consume implements [Consumer].
func (q *sqlQueue) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	stop, done := make(chan struct{}), make(chan struct{})
	claiming, interrupt := context.WithCancel(ctx)
	var outcome error
	go func() {
		defer close(done)
		outcome = q.loop(ctx, claiming, stop, handle)
		if claiming.Err() != nil {
			outcome = nil
		}
	}()
	return func() error {
		close(stop)
		if q.interruptible {
			interrupt()
		}
		defer interrupt()
		if err := await(done); err != nil {
			return err
		}
		return outcome
	}, nil
}

// loop takes two contexts: a claim may end with the second, an ack must not.
func (q *sqlQueue) loop(ctx, claiming context.Context, stop <-chan struct{}, handle func(id int)) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		ids, numbers, err := q.next(claiming)
		if err != nil {
			return err
		}
		q.handleAll(numbers, handle)
		if err := q.settle(ctx, ids); err != nil {
			return err
		}
	}
}

// next claims messages, and returns the ids of their rows and their own numbers.
func (q *sqlQueue) next(ctx context.Context) (ids []int64, numbers []int, err error) {
	rows, err := q.claim(ctx)
	if err != nil {
		return nil, nil, err
	}
	var row int64
	var body []byte
	ids, numbers = make([]int64, 0, q.batch), make([]int, 0, q.batch)
	_, err = pgx.ForEachRow(rows, []any{&row, &body}, func() error {
		ids, numbers = append(ids, row), append(numbers, idOf(body))
		return nil
	})
	return ids, numbers, err
}

func (q *sqlQueue) handleAll(numbers []int, handle func(id int)) {
	if q.env.InFlight == 0 {
		for _, id := range numbers {
			handle(id)
		}
		return
	}
	slots := make(chan struct{}, q.env.InFlight)
	var running sync.WaitGroup
	for _, id := range numbers {
		slots <- struct{}{}
		running.Go(func() {
			handle(id)
			<-slots
		})
	}
	running.Wait()
}

func (q *sqlQueue) settle(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		time.Sleep(time.Millisecond) // nothing to wait for but new messages
		return nil
	}
	if q.remove == "" {
		return nil
	}
	_, err := q.env.Pool.Exec(ctx, q.remove, ids)
	return err
}

// Waiting implements [Queue].
func (q *sqlQueue) Waiting(ctx context.Context) (Count, error) { return countPGMQ(ctx, q.env) }

// Obstruct implements [Obstructor].
func (q *sqlQueue) Obstruct(ctx context.Context, what Obstruction, n int) error {
	return obstructPGMQ(ctx, q.env, what, n)
}

// Close implements [Queue].
func (q *sqlQueue) Close() error { return nil }
