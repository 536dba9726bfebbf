package pgmq

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

// PurgeQueue deletes the messages that topic has now, also those that are leased
// or delayed, and returns how many. Of a Queue with a Group, it purges that
// group's. A handler that is at work on one of them may finish; its ack is void.
//
// It deletes in batches, of which those that are done stay done if it fails, and
// needs the privileges of a consumer. The TRUNCATE of pgmq.purge_queue needs
// another one, waits for every transaction that uses the queue, and keeps all
// publishers and consumers waiting meanwhile.
//
// What a trigger, a rule or a policy of the table keeps stays: an error counts it.
func (q *Queue) PurgeQueue(ctx context.Context, topic string) (int, error) {
	const op = "purge"
	queue, err := q.consumed(topic)
	if err != nil {
		return 0, classify(op, topic, err)
	}
	deleted, err := q.purge(ctx, queue)
	return deleted, q.failed(ctx, op, topic, err)
}

// purgeSQL deletes a batch of what is between two ids. Rows are locked in the
// order of their ids, as all statements do that lock several.
const purgeSQL = `
with doomed as (
	select msg_id from %[1]s
	where msg_id > $1 and msg_id <= $2
	order by msg_id
	limit 1000
	for update),
d as (delete from %[1]s where msg_id = any(array(select msg_id from doomed)) returning 1)
select count(*)::int, (select count(*) from d)::int, coalesce(max(msg_id), $2) from doomed`

// lastSQL is what max(msg_id) is, for which PostgreSQL reads all where it expects one row.
const lastSQL = `select coalesce((select msg_id from %s order by msg_id desc limit 1), '-9223372036854775808'::bigint)`

func (q *Queue) purge(ctx context.Context, queue string) (deleted int, err error) {
	last, err := one[int64](ctx, q, fmt.Sprintf(lastSQL, tableName(queue)))
	if err != nil {
		return 0, err
	}
	kept := 0
	for after := int64(math.MinInt64); ; {
		var n, gone int
		err := q.inTransaction(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, fmt.Sprintf(purgeSQL, tableName(queue)),
				pgx.QueryExecModeCacheDescribe, after, last).Scan(&n, &gone, &after)
		})
		if err != nil || n == 0 {
			return deleted, cmpError(err, undeleted(kept, tableName(queue)))
		}
		deleted, kept = deleted+gone, kept+n-gone
	}
}

func invalidLimit(limit int) error {
	return &Error{Kind: ErrInvalidConfig, Cause: fmt.Errorf("limit is %d", limit), Remedy: "set it to 1 or more"}
}

// consumed returns the queue that subscriptions to topic read: the topic's own,
// or that of the group.
func (q *Queue) consumed(topic string) (string, error) {
	if q.publisher.closed.Load() {
		return "", backend.ErrClosed
	}
	return q.subscriber.queueOf(topic)
}

// one returns the only column of the only row of a query.
func one[T any](ctx context.Context, q *Queue, sql string, args ...any) (value T, err error) {
	args = append([]any{pgx.QueryExecModeCacheDescribe}, args...)
	return value, q.pool.QueryRow(ctx, sql, args...).Scan(&value)
}

// undeleted returns an error if a table keeps messages that were deleted.
func undeleted(kept int, table string) error {
	if kept == 0 {
		return nil
	}
	return &Error{
		Cause:  fmt.Errorf("%d messages stay: PostgreSQL was told to delete them, and returned no error", kept),
		Remedy: fmt.Sprintf("look for what keeps them on %s: a BEFORE DELETE trigger that returns NULL, a rule or a policy", table),
	}
}
