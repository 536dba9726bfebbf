package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

// DeadLetter is a message that was dead-lettered, as it lies in the queue of a
// dead-letter topic. Fields that the message does not name are zero.
type DeadLetter struct {
	ID       int64  // the row in the dead-letter queue
	UUID     string // the message; it had the same before
	Topic    string // where it came from
	Group    string // the consumer group that dead-lettered it, if it was one
	Handler  string // which handler dead-lettered it
	Reason   string // the error of the last failure
	Failures int    // how often it had failed
	Event    string // the name of the event, if it has one

	// At is when it was dead-lettered, or, if it does not say, when it was stored here: 1970 if
	// that was set to infinity.
	At time.Time

	Payload  []byte
	Metadata message.Metadata // the message's own, without what is said above

	// Err says why it cannot be read: it is damaged, or larger than PostgreSQL can write
	// out. The fields above are then zero, except for ID. Or Err is [ErrStrays]: the
	// message names no topic that it came from, so it is no dead letter, and perhaps an event
	// that waits to be handled. The fields above then have what there is.
	Err error
}

// DeadLetters returns up to limit of the messages of a dead-letter topic, the
// oldest first. It reads them and nothing else: they stay where they are, as
// visible as they were. Those that a consumer of the topic has leased are among
// them. One that cannot be read has an Err, and does not hide the others.
// A message that is no dead letter has one, too: see DeadLetter.Err.
//
// All of their payloads are in memory at once. [Client.DeadLetterHeads] needs little,
// and [Client.ReadDeadLetter] reads a single one.
func (c *Client) DeadLetters(ctx context.Context, topic string, limit int) ([]DeadLetter, error) {
	return c.listDeadLetters(ctx, topic, limit, fullDeadLetter())
}

// DeadLetterHeads returns what DeadLetters does, without the Payload and the Metadata,
// and with at most 1025 characters of each text. Each dead letter takes some
// kilobytes, whatever it contains.
func (c *Client) DeadLetterHeads(ctx context.Context, topic string, limit int) ([]DeadLetter, error) {
	return c.listDeadLetters(ctx, topic, limit, deadLetterHead())
}

// ReadDeadLetter returns the message with this ID of a dead-letter topic. If it is not
// there any more, the error matches [pgx.ErrNoRows].
func (c *Client) ReadDeadLetter(ctx context.Context, topic string, id int64) (DeadLetter, error) {
	const op = "read a dead letter"
	queue, err := c.deadLetterQueue(topic)
	if err != nil {
		return DeadLetter{}, classify(op, topic, err)
	}
	deadLetter, err := c.readDeadLetter(ctx, queue, id, fullDeadLetter())
	return deadLetter, c.deadLetterError(ctx, op, topic, err)
}

// deadLetterDetail is how much is read of dead letters.
type deadLetterDetail struct {
	columns string
	scan    func(r pgx.CollectableRow, queue string) (DeadLetter, error)
}

func (c *Client) listDeadLetters(ctx context.Context, topic string, limit int, detail deadLetterDetail) ([]DeadLetter, error) {
	const op = "list dead letters"
	queue, err := c.deadLetterQueue(topic)
	if err != nil {
		return nil, classify(op, topic, err)
	}
	if limit < 1 {
		return nil, classify(op, topic, invalidLimit(limit))
	}
	deadLetters, err := c.queryDeadLetters(ctx, queue, detail, "order by msg_id limit $1", limit)
	if isUnreadable(err) || isDoubtful(err) {
		deadLetters, err = c.readDeadLettersSingly(ctx, queue, limit, detail)
	}
	return deadLetters, c.deadLetterError(ctx, op, topic, err)
}

func (c *Client) queryDeadLetters(ctx context.Context, queue string, detail deadLetterDetail, which string, arg any) ([]DeadLetter, error) {
	sql := "select " + detail.columns + " from " + tableName(queue) + " " + which
	return collect(ctx, c, func(r pgx.CollectableRow) (DeadLetter, error) { return detail.scan(r, queue) }, sql, arg)
}

// collect reads rows in a transaction, which plans as all that look at queues do.
func collect[T any](ctx context.Context, c *Client, scan pgx.RowToFunc[T], sql string, args ...any) (all []T, err error) {
	err = c.inTransaction(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, scan)
		return err
	})
	return all, err
}

func (c *Client) readDeadLetter(ctx context.Context, queue string, id int64, detail deadLetterDetail) (DeadLetter, error) {
	found, err := c.queryDeadLetters(ctx, queue, detail, "where msg_id = $1", id)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("the dead letter is not there any more: %w", pgx.ErrNoRows)
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return found[0], nil
}

// readDeadLettersSingly reads dead letters of which one cannot be read.
func (c *Client) readDeadLettersSingly(ctx context.Context, queue string, limit int, detail deadLetterDetail) ([]DeadLetter, error) {
	ids, err := collect(ctx, c, pgx.RowTo[int64], "select msg_id from "+tableName(queue)+" order by msg_id limit $1", limit)
	if err != nil {
		return nil, err
	}
	deadLetters := make([]DeadLetter, 0, len(ids))
	for _, id := range ids {
		deadLetter, err := c.readDeadLetter(ctx, queue, id, detail)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // it was moved meanwhile
			continue
		case isUnreadable(err) || isDoubtful(err):
			deadLetter = DeadLetter{ID: id, Err: classify("read a dead letter", queue, err)}
		case err != nil:
			return nil, err
		}
		deadLetters = append(deadLetters, deadLetter)
	}
	return deadLetters, nil
}

func fullDeadLetter() deadLetterDetail {
	return deadLetterDetail{
		columns: "msg_id, " + finite("enqueued_at") + ", message::text, headers::text, " + headerSQL(groupKey) + ", " + eventSQL(),
		scan: func(r pgx.CollectableRow, queue string) (DeadLetter, error) {
			var deadLetter row
			var group, event string
			err := r.Scan(&deadLetter.ID, &deadLetter.PublishedAt, &deadLetter.Message, &deadLetter.Headers, &group, &event)
			found := deadLetter.deadLetter(queue)
			found.Group, found.Event, found.Err = group, event, strayed(found.Topic)
			return found, err
		},
	}
}

func deadLetterHead() deadLetterDetail {
	columns := []string{"msg_id", finite("enqueued_at"), eventSQL()}
	for _, key := range [...]string{
		groupKey, uuidKey, backend.DeadLetterTopic, backend.DeadLetterHandler, backend.DeadLetterReason, backend.DeadLetterFailures, backend.DeadLetterAt,
	} {
		columns = append(columns, headerSQL(key))
	}
	return deadLetterDetail{columns: strings.Join(columns, ", "), scan: func(r pgx.CollectableRow, queue string) (deadLetter DeadLetter, err error) {
		var failures, at string
		err = r.Scan(&deadLetter.ID, &deadLetter.At, &deadLetter.Event,
			&deadLetter.Group, &deadLetter.UUID, &deadLetter.Topic, &deadLetter.Handler, &deadLetter.Reason, &failures, &at)
		deadLetter.UUID = cmp.Or(deadLetter.UUID, defaultID(queue, deadLetter.ID))
		deadLetter.setFailures(failures, at)
		deadLetter.Err = strayed(deadLetter.Topic)
		return deadLetter, err
	}}
}

// eventSQL reads the name of an event, which is in the payload, or under Watermill's name
// for it in the headers.
func eventSQL() string {
	const inPayload = "case when jsonb_typeof(message->'_type') = 'string' then left(message->>'_type', 1025) end"
	return "coalesce(" + inPayload + ", " + headerSQL("name") + ")"
}

func (r row) deadLetter(queue string) DeadLetter {
	r.Known = true // it was handled, and this is what became of it
	lease, _ := r.lease("", queue, nil, &delivery{})
	msg := lease.Message
	header := msg.Metadata.Get
	deadLetter := DeadLetter{
		ID:       r.ID,
		UUID:     msg.UUID,
		Topic:    header(backend.DeadLetterTopic),
		Handler:  header(backend.DeadLetterHandler),
		Reason:   header(backend.DeadLetterReason),
		At:       r.PublishedAt,
		Payload:  msg.Payload,
		Metadata: msg.Metadata,
	}
	deadLetter.setFailures(header(backend.DeadLetterFailures), header(backend.DeadLetterAt))
	clearDeadLetter(deadLetter.Metadata)
	return deadLetter
}

// clearDeadLetter removes what the metadata of a dead letter has beside the message's own.
func clearDeadLetter(metadata message.Metadata) {
	maps.DeleteFunc(metadata, func(key, _ string) bool {
		switch key {
		case backend.DeadLetterReason, backend.DeadLetterTopic, backend.DeadLetterHandler, backend.DeadLetterFailures, backend.DeadLetterAt:
			return true
		}
		return false
	})
}

// strayed returns the Err of a message that is no dead letter, for the topic that it says it came from.
func strayed(topic string) error {
	if topic != "" {
		return nil
	}
	return &Error{
		Op: "read a dead letter", Kind: ErrStrays, Cause: errors.New("the message names no topic that it came from, as dead letters do"),
		Remedy: "check the topic: its dead letters are in the topic of its Poison, which is named after it with _dead behind it, or as you have named it",
	}
}

// setFailures reads what headers say of failures, as far as it makes sense.
func (l *DeadLetter) setFailures(failures, at string) {
	if n, err := strconv.Atoi(failures); err == nil {
		l.Failures = n
	}
	if at, err := time.Parse(time.RFC3339, at); err == nil {
		l.At = at
	}
}

// deadLetterQueue returns the queue of a dead-letter topic. It is the topic's own:
// dead letters are not copied to groups.
func (c *Client) deadLetterQueue(topic string) (string, error) {
	if c.publisher.closed.Load() {
		return "", backend.ErrClosed
	}
	return queueName(topic)
}
