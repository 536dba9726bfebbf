package pgmq

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

// DeadLetter is a message that was given up, as it lies in the queue of a
// dead-letter topic. What the message does not say is zero.
type DeadLetter struct {
	ID       int64  // the row in the dead-letter queue
	UUID     string // the message; it had the same before
	Topic    string // where it came from
	Group    string // the consumer group that gave it up, if it was one
	Handler  string // which handler gave it up
	Reason   string // the error of the last failure
	Failures int    // how often it had failed

	// At is when it was given up, or, if it does not say, when it was stored here.
	At time.Time

	Payload  []byte
	Metadata message.Metadata // the message's own, without what is said above
}

// DeadLetters returns up to limit of the messages of a dead-letter topic, the
// oldest first. It reads them and nothing else: they stay where they are, as
// visible as they were. Those that a consumer of the topic has leased are among
// them.
func (q *Queue) DeadLetters(ctx context.Context, topic string, limit int) ([]DeadLetter, error) {
	const op = "list dead letters"
	queue, err := q.lettersQueue(topic)
	if err != nil {
		return nil, classify(op, topic, err)
	}
	if limit < 1 {
		return nil, classify(op, topic, invalidLimit(limit))
	}
	rows, err := q.pool.Query(ctx, fmt.Sprintf(lettersSQL, tableName(queue)), pgx.QueryExecModeCacheDescribe, limit)
	if err != nil {
		return nil, classify(op, topic, err)
	}
	letters, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (DeadLetter, error) {
		var letter row
		var group string
		err := r.Scan(&letter.ID, &letter.PublishedAt, &letter.Message, &letter.Headers, &group)
		found := letter.deadLetter(queue)
		found.Group = group
		return found, err
	})
	return letters, classify(op, topic, err)
}

const lettersSQL = `select msg_id, enqueued_at, message::text, headers::text, coalesce(headers->>'` + groupKey + `', '') from %s order by msg_id limit $1`

func (r row) deadLetter(queue string) DeadLetter {
	msg := r.lease(queue, nil, &delivery{}).Message
	said := msg.Metadata.Get
	letter := DeadLetter{
		ID:       r.ID,
		UUID:     msg.UUID,
		Topic:    said(backend.DeadLetterTopic),
		Handler:  said(backend.DeadLetterHandler),
		Reason:   said(backend.DeadLetterReason),
		At:       r.PublishedAt,
		Payload:  msg.Payload,
		Metadata: msg.Metadata,
	}
	if n, err := strconv.Atoi(said(backend.DeadLetterFailures)); err == nil {
		letter.Failures = n
	}
	if at, err := time.Parse(time.RFC3339, said(backend.DeadLetterAt)); err == nil {
		letter.At = at
	}
	backend.ClearDeadLetter(letter.Metadata)
	return letter
}

// PurgeDeadLetters deletes the messages that the dead-letter topic has now, also
// those that a consumer of the topic has leased, and returns how many. It does so
// in batches, as [Queue.PurgeQueue] does.
func (q *Queue) PurgeDeadLetters(ctx context.Context, topic string) (int, error) {
	const op = "purge dead letters"
	queue, err := q.lettersQueue(topic)
	if err != nil {
		return 0, classify(op, topic, err)
	}
	deleted, err := q.purge(ctx, queue)
	return deleted, classify(op, topic, err)
}

// lettersQueue returns the queue of a dead-letter topic. It is the topic's own:
// dead letters are not copied to groups.
func (q *Queue) lettersQueue(topic string) (string, error) {
	if q.publisher.closed.Load() {
		return "", backend.ErrClosed
	}
	return queueName(topic)
}
