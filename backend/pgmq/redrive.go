package pgmq

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

// redriveBatch is how many dead letters are looked at, and moved at most, in one
// transaction.
const redriveBatch = 1000

// Redrive moves up to limit dead letters of the topic from back to where they
// came from, the oldest first, and returns how many it has moved. They keep their
// ids, lose what the dead-letter topic has added, and begin with no failures.
//
// Each goes to the queue that it was in. If it does not say which, as one that
// Watermill's PoisonQueue has written, it is published to its topic anew, to all
// of that topic's groups. A queue that does not exist is created, unless the
// publisher's NoCreate is set.
//
// A dead letter is in one of its queues at any time, whatever happens, and
// concurrent calls do not move it twice. Calling Redrive again continues after an
// error. Dead letters that a consumer of the topic has leased, and those that are
// delayed, stay. So do messages that do not say where they came from, which are
// no dead letters, and those whose queue cannot be filled: the rest is moved, and
// an error says so.
func (q *Queue) Redrive(ctx context.Context, from string, limit int) (moved int, err error) {
	const op = "redrive"
	queue, err := q.lettersQueue(from)
	if err != nil {
		return 0, classify(op, from, err)
	}
	if limit < 1 {
		return 0, classify(op, from, invalidLimit(limit))
	}
	r := redrive{queue: q, from: queue, stuck: map[origin]bool{}}
	moved, err = r.run(ctx, limit)
	return moved, classify(op, from, cmpError(err, r.left()))
}

// redrive is one call of Redrive.
type redrive struct {
	queue *Queue
	from  string

	strays int             // messages that say no origin
	stuck  map[origin]bool // those whose letters cannot be moved
	failed error           // why not; the first
}

// origin is where a dead letter says it was.
type origin struct{ queue, topic string }

// candidate is a dead letter that was visible a moment ago.
type candidate struct {
	ID int64
	origin
}

// run goes through the dead letters once, up to the last that was there at the
// start: one that is moved may be a dead letter again in no time.
func (r *redrive) run(ctx context.Context, limit int) (moved int, err error) {
	last, err := one[int64](ctx, r.queue, fmt.Sprintf(lastSQL, tableName(r.from)))
	if err != nil {
		return 0, err
	}
	for after := int64(math.MinInt64); moved < limit; {
		found, err := r.candidates(ctx, after, last, min(limit-moved, redriveBatch))
		if err != nil || len(found) == 0 {
			return moved, err
		}
		after = found[len(found)-1].ID
		moved += r.moveAll(ctx, found)
	}
	return moved, nil
}

// "is true" keeps PostgreSQL from looking for all that are visible, of which it may expect one.
const candidatesSQL = `
select msg_id, coalesce(headers->>'` + originKey + `', ''), coalesce(headers->>'` + backend.DeadLetterTopic + `', '')
from %s
where msg_id > $1 and msg_id <= $2 and (vt <= statement_timestamp()) is true
order by msg_id
limit $3`

func (r *redrive) candidates(ctx context.Context, after, last int64, limit int) (found []candidate, err error) {
	err = r.queue.inTransaction(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fmt.Sprintf(candidatesSQL, tableName(r.from)),
			pgx.QueryExecModeCacheDescribe, after, last, limit)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (c candidate, err error) {
			return c, r.Scan(&c.ID, &c.queue, &c.topic)
		})
		return err
	})
	return found, err
}

// moveAll moves those of found that can be moved, and remembers the others.
func (r *redrive) moveAll(ctx context.Context, found []candidate) (moved int) {
	var order []origin
	letters := map[origin][]int64{}
	for _, c := range found {
		if c.topic == "" {
			r.strays++
			continue
		}
		if letters[c.origin] == nil {
			order = append(order, c.origin)
		}
		letters[c.origin] = append(letters[c.origin], c.ID)
	}
	for _, from := range order {
		if r.stuck[from] {
			continue
		}
		n, err := r.move(ctx, from, letters[from])
		if err != nil {
			r.stuck[from] = true
			r.failed = cmpError(r.failed, err)
		}
		moved += n
	}
	return moved
}

// move moves dead letters to where they came from, all in one statement. If that
// was dropped while this client knew of it, it tries again.
func (r *redrive) move(ctx context.Context, to origin, ids []int64) (moved int, err error) {
	publisher := r.queue.publisher
	for again := true; ; again = false {
		route, err := r.route(ctx, to)
		if err != nil {
			return 0, err
		}
		err = r.queue.inTransaction(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, redriveSQL(r.from, route.queues),
				pgx.QueryExecModeCacheDescribe, ids, letterKeys(), r.from).Scan(&moved)
		})
		switch {
		case err == nil:
			if moved > 0 {
				publisher.tell(route)
			}
			return moved, nil
		case again && isCode(err, "42P01"):
			publisher.routes.forget(to.topic, route)
			for _, queue := range route.queues {
				publisher.routes.catalog.forget(queue)
			}
		default:
			return 0, r.denied(err, route)
		}
	}
}

// route returns the queues that get the dead letters of an origin.
func (r *redrive) route(ctx context.Context, to origin) (*route, error) {
	p := r.queue.publisher
	if to.queue == "" || !isPlain(to.queue) {
		return p.routes.look(ctx, r.queue.pool, to.topic, p.create)
	}
	if err := p.routes.catalog.ensure(ctx, r.queue.pool, to.queue, p.create); err != nil {
		return nil, err
	}
	return &route{queues: []string{to.queue}}, nil
}

// letterKeys is the headers that a dead letter has got as such, or that count
// what is to begin anew.
func letterKeys() []string {
	return []string{
		originKey, groupKey, failuresKey, doneKey, unknownKey,
		backend.DeadLetterReason, backend.DeadLetterTopic, backend.DeadLetterHandler,
		backend.DeadLetterFailures, backend.DeadLetterAt,
	}
}

// redriveSQL returns the statement that moves dead letters between tables. Its
// parameters are ids, the headers to remove, and the name of the queue they are
// in, from which the id is made of a message that has none.
//
// They are locked, and looked at again once they are: another call may have moved
// them, a consumer may have leased them. Whoever has them locked settles them.
func redriveSQL(from string, to []string) string {
	var sql strings.Builder
	fmt.Fprintf(&sql, `
with t as (select * from unnest($1::bigint[]) as t(id) order by id),
due as (
	select m.msg_id from t cross join lateral (
		select m.msg_id from %[1]s m
		where m.msg_id = t.id and (m.vt <= statement_timestamp()) is true
		for update skip locked) m),
d as (
	delete from %[1]s m where m.msg_id = any(array(select msg_id from due))
	returning m.msg_id, m.message, jsonb_build_object('`+uuidKey+`', $3::text || '/' || m.msg_id) || (m.headers - $2::text[]) as headers)`,
		tableName(from))
	for i, queue := range to {
		fmt.Fprintf(&sql, `,
i%d as (
	insert into %s (vt, message, headers)
	select clock_timestamp(), message, headers from d order by msg_id)`, i, tableName(queue))
	}
	sql.WriteString("\nselect count(*)::int from d")
	return sql.String()
}

func (r *redrive) denied(err error, to *route) error {
	if !isCode(err, "42501") {
		return err
	}
	tables := make([]string, len(to.queues))
	for i, queue := range to.queues {
		tables[i] = tableName(queue)
	}
	return &Error{
		Kind: ErrPermission, Cause: withoutSecrets(err),
		Remedy: fmt.Sprintf("let their owner run GRANT SELECT, UPDATE, DELETE ON %s TO the role; GRANT INSERT ON %s TO the role",
			tableName(r.from), strings.Join(tables, ", ")),
	}
}

// left returns an error if there are messages that could not be moved.
func (r *redrive) left() error {
	if r.failed != nil || r.strays == 0 {
		return r.failed
	}
	return &Error{
		Kind:   ErrInvalidMessage,
		Cause:  fmt.Errorf("%d messages do not say where they came from and stay where they are", r.strays),
		Remedy: "look at them with DeadLetters; they may have been published to this topic by mistake",
	}
}
