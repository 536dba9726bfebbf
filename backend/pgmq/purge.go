package pgmq

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

// PurgeQueue deletes the messages that topic has now, also those that are leased
// or delayed, and returns how many. Of a Client with a Group, it purges that
// group's. A handler that is at work on one of them may finish; its ack is void.
//
// It deletes in batches, of which those that are done stay done if it fails, and
// needs the privileges of a consumer. The TRUNCATE of pgmq.purge_queue needs
// another one, waits for every transaction that uses the queue, and keeps all
// publishers and consumers waiting meanwhile.
//
// Messages that a trigger, a rule or a policy of the table keeps stay: an error counts
// them. If a trigger or a constraint refuses to delete one message, its batch and all that
// come after it stay, up to all of the queue, and the error says how many are deleted.
func (c *Client) PurgeQueue(ctx context.Context, topic string) (int, error) {
	const op = "purge"
	queue, err := c.consumedQueue(topic)
	if err != nil {
		return 0, classify(op, topic, err)
	}
	deleted, _, err := c.purge(ctx, queue, "true")
	return deleted, c.consumerError(ctx, op, topic, err)
}

// PurgeDeadLetters deletes the dead letters that the topic from has now, also those
// that a consumer of it has leased, and returns how many. It does so in batches, as
// [Client.PurgeQueue] does.
//
// As [Client.Redrive] does, it takes the dead letters of the given topics, and if there are
// none, those of the topic that from is named after: of "orders" from "orders_dead".
// Messages that do not say that they came from one of them stay, and an error of the kind
// [ErrStrays] counts them. PurgeQueue, of a Client without a Group, deletes those too.
func (c *Client) PurgeDeadLetters(ctx context.Context, from string, topics ...string) (deleted int, err error) {
	const op = "purge dead letters"
	queue, err := c.deadLetterQueue(from)
	if err != nil {
		return 0, classify(op, from, err)
	}
	selected := c.newOrigins(from, topics)
	if err := selected.check(from); err != nil {
		return 0, classify(op, from, err)
	}
	deleted, left, err := c.purge(ctx, queue, headerSQL(backend.DeadLetterTopic)+" = any($3::text[])", selected.topics)
	if err == nil && left > 0 {
		err = &Error{
			Kind: ErrStrays, Cause: fmt.Errorf("%d messages stay: they are not dead letters of %s", left, selected.topicNames()),
			Remedy: "DeadLetters shows what they say; name the topics whose dead letters are to be deleted, or delete all that is there with PurgeQueue",
		}
	}
	return deleted, c.deadLetterError(ctx, op, from, err)
}

// purgeSQL looks at a batch of what is between two ids, and deletes what a condition holds
// for. Rows are locked in the order of their ids, as all statements do that lock several.
const purgeSQL = `
with seen as (
	select msg_id, %[2]s as doomed from %[1]s
	where msg_id > $1 and msg_id <= $2
	order by msg_id
	limit 1000
	for update),
d as (delete from %[1]s where msg_id = any(array(select msg_id from seen where doomed)) returning 1)
select count(*) filter (where doomed)::int, (select count(*) from d)::int, count(*) filter (where not doomed)::int, coalesce(max(msg_id), $2)
from seen`

// lastSQL is what max(msg_id) is, for which PostgreSQL reads all where it expects one row.
const lastSQL = `select coalesce((select msg_id from %s order by msg_id desc limit 1), '-9223372036854775808'::bigint)`

// purge deletes what the condition holds for, of which args are the parameters from $3 on,
// and counts what it leaves.
func (c *Client) purge(ctx context.Context, queue, condition string, args ...any) (deleted, left int, err error) {
	last, err := queryValue[int64](ctx, c, fmt.Sprintf(lastSQL, tableName(queue)))
	if err != nil {
		return 0, 0, err
	}
	sql := fmt.Sprintf(purgeSQL, tableName(queue), condition)
	kept := 0 // of what was to go
	for after := int64(math.MinInt64); ; {
		var matching, removed, stay int
		err := c.inTransaction(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe, after, last}, args...)...).Scan(&matching, &removed, &stay, &after)
		})
		if err != nil || matching+stay == 0 {
			return deleted, left, firstError(halted(err, deleted, tableName(queue)), keptError(kept, tableName(queue)))
		}
		deleted, kept, left = deleted+removed, kept+matching-removed, left+stay
	}
}

func invalidLimit(limit int) error {
	return &Error{Kind: ErrInvalidConfig, Cause: fmt.Errorf("limit is %d", limit), Remedy: "set it to 1 or more"}
}

// consumedQueue returns the queue that subscriptions to topic read: the topic's own,
// or that of the group.
func (c *Client) consumedQueue(topic string) (string, error) {
	if c.publisher.closed.Load() {
		return "", backend.ErrClosed
	}
	return c.subscriber.queueOf(topic)
}

// queryValue returns the only column of the only row of a query.
func queryValue[T any](ctx context.Context, c *Client, sql string, args ...any) (value T, err error) {
	args = append([]any{pgx.QueryExecModeCacheDescribe}, args...)
	return value, c.pool.QueryRow(ctx, sql, args...).Scan(&value)
}

// halted returns err, or says what stays if PostgreSQL refuses to delete one
// message of a batch.
func halted(err error, deleted int, table string) error {
	if err == nil || mayBeRetried(err) {
		return err
	}
	return &Error{
		Cause: fmt.Errorf("%d messages are deleted, and all others stay, since PostgreSQL refuses to delete one of the next batch: %w", deleted, withoutSecrets(err)),
		Remedy: fmt.Sprintf("look for the trigger or the constraint on %s that refuses it, and remove that; or delete the others with DELETE FROM %[1]s WHERE …",
			table),
	}
}

// keptError returns an error if a table keeps messages that were deleted.
func keptError(kept int, table string) error {
	if kept == 0 {
		return nil
	}
	return &Error{
		Cause:  fmt.Errorf("%d messages stay: PostgreSQL was told to delete them, and returned no error", kept),
		Remedy: keepsRemedy(table),
	}
}

func keepsRemedy(table string) string {
	return fmt.Sprintf("look for what keeps rows on %s: a BEFORE DELETE trigger that returns NULL, a rule or a policy", table)
}
