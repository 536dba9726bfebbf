package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/deadletters"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/lease"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// deadLetterDetail is how much is read of dead letters.
type deadLetterDetail struct {
	columns string
	also    string // what they are read from beside the table
	scan    func(r pgx.CollectableRow, queue string) (backend.FoundDeadLetter, error)
	most    int // bytes of memory after which a list ends
}

func fullDeadLetter() deadLetterDetail {
	return deadLetterDetail{
		columns: headColumns() + ", message::text, headers::text",
		scan: func(r pgx.CollectableRow, queue string) (backend.FoundDeadLetter, error) {
			var head deadLetterHead
			var stored lease.Row
			err := r.Scan(append(head.fields(), &stored.Message, &stored.Headers)...)
			return head.with(stored, queue), err
		},
	}
}

// limitedDeadLetter is fullDeadLetter for messages of up to limit bytes, of which headers are those of the headers. Of a
// larger one, it reads the beginning.
func limitedDeadLetter(limit, headers, beginning int) deadLetterDetail {
	full := fullDeadLetter()
	if limit <= 0 {
		return full
	}
	// PostgreSQL writes them out once, and sends what is asked for.
	full.also = ", lateral (select message::text as body, headers::text as head offset 0) as written," +
		" lateral (select coalesce(pg_catalog.octet_length(body), 0)::bigint as body_size, coalesce(pg_catalog.octet_length(head), 0)::bigint as head_size) as measured"
	within := fmt.Sprintf("body_size + head_size <= %d and head_size <= %d", limit, headers)
	texts := strings.NewReplacer("message::text", "case when "+within+" then body end", "headers::text", "case when "+within+" then head end")
	full.columns = texts.Replace(full.columns) + fmt.Sprintf(", body_size, head_size, case when %s then null else pg_catalog.left(coalesce(body, ''), %d) end", within, beginning)
	full.scan = func(r pgx.CollectableRow, queue string) (backend.FoundDeadLetter, error) {
		var head deadLetterHead
		var stored lease.Row
		var bodySize, headSize int64
		var beginning *string
		err := r.Scan(append(head.fields(), &stored.Message, &stored.Headers, &bodySize, &headSize, &beginning)...)
		if beginning == nil {
			return head.with(stored, queue), err
		}
		found := head.found(queue)
		found.Payload, found.Err = []byte(*beginning), tooLargeToShow(bodySize+headSize, limit)
		if headSize > int64(headers) {
			found.Err = headersTooLargeToShow(headSize, headers)
		}
		return found, err
	}
	return full
}

// maxListed is how many bytes of memory the dead letters take that are listed at once.
const maxListed = 128 << 20

// listedDeadLetter is limitedDeadLetter for those that are listed, up to most bytes. Of one that has more than half of that,
// or larger headers than consumers take, the head is listed.
func listedDeadLetter(most int) deadLetterDetail {
	limited := limitedDeadLetter(most/2, codec.MaxHeaders, 0)
	limited.most = most
	return limited
}

func tooLargeToShow(size int64, limit int) error {
	return &Error{
		Op: "read a dead letter", Kind: ErrTooLarge, Cause: fmt.Errorf("with its headers it has %d bytes, and the limit is %d", size, limit),
		Remedy: "ask for more, with ReadDeadLetter",
	}
}

func headersTooLargeToShow(size int64, limit int) error {
	return &Error{
		Op: "read a dead letter", Kind: ErrTooLarge, Cause: fmt.Errorf("its headers have %d bytes, and consumers take %d", size, limit),
		Remedy: "read it alone, with ReadDeadLetter",
	}
}

func headOfDeadLetter(most int) deadLetterDetail {
	return deadLetterDetail{most: most, columns: headColumns(), scan: func(r pgx.CollectableRow, queue string) (backend.FoundDeadLetter, error) {
		var head deadLetterHead
		err := r.Scan(head.fields()...)
		return head.found(queue), err
	}}
}

// deadLetterHead is what a dead letter says of itself. A value that is no string says nothing, as for a selection.
type deadLetterHead struct {
	row                                                              int64
	stored                                                           time.Time
	event, id, group, topic, handler, reason, failures, deadLettered string
	publishedTo                                                      string // as codec.EscapeTopic has it
}

// headColumns are the fields of a deadLetterHead in SQL.
func headColumns() string {
	columns := []string{"msg_id", statement.Finite("enqueued_at"), eventSQL(), codec.HeaderSQL(codec.UUIDKey, backend.MaxID)}
	for _, key := range [...]string{
		codec.GroupKey, backend.DeadLetterTopic, backend.DeadLetterHandler, backend.DeadLetterReason, backend.DeadLetterFailures, backend.DeadLetterAt,
	} {
		columns = append(columns, headerSQL(key))
	}
	const longestTopic = 3 * 2 * backend.MaxTopic // with any "_dead" at its end, and each byte escaped as three
	columns = append(columns, codec.HeaderSQL(codec.TopicKey, longestTopic))
	return strings.Join(columns, ", ")
}

func (h *deadLetterHead) fields() []any {
	return []any{&h.row, &h.stored, &h.event, &h.id, &h.group, &h.topic, &h.handler, &h.reason, &h.failures, &h.deadLettered, &h.publishedTo}
}

// found returns the dead letter in a row of queue, without its payload and its metadata.
func (h *deadLetterHead) found(queue string) backend.FoundDeadLetter {
	d := backend.FoundDeadLetter{
		Row: h.row, ID: cmp.Or(h.id, codec.DefaultID(queue, h.row)), Topic: h.topic, Group: h.group, Handler: h.handler, Event: h.event, Reason: h.reason,
		PublishedTo: (&codec.Headers{Topic: h.publishedTo}).PublishedTo(h.topic), At: h.stored, Err: strayed(h.topic),
	}
	if n, err := strconv.Atoi(h.failures); err == nil {
		d.Failures = n
	}
	if at, err := time.Parse(time.RFC3339, h.deadLettered); err == nil {
		d.At = at
	}
	return d
}

// with returns the dead letter with what is stored there.
func (h *deadLetterHead) with(stored lease.Row, queue string) backend.FoundDeadLetter {
	d, msg := h.found(queue), stored.Decode(queue)
	d.Payload, d.Metadata = msg.Payload, msg.Metadata
	for _, key := range deadletters.Keys() {
		delete(d.Metadata, key)
	}
	return d
}

// eventSQL reads the name of an event, which is in the payload, or under Watermill's name
// for it in the headers.
func eventSQL() string {
	const inPayload = "case when pg_catalog.jsonb_typeof(message->'_type'::text) = 'string' then pg_catalog.left(message->>'_type'::text, 1025) end"
	return "coalesce(" + inPayload + ", " + headerSQL("name") + ")"
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

// list reads the dead letters of these ids in queue, in their order, until it has the most bytes. more says that there are others.
func (d deadLetterDetail) list(ctx context.Context, pool *pgxpool.Pool, queue string, ids []int64) (found []backend.FoundDeadLetter, more bool, err error) {
	if len(ids) == 0 {
		return nil, false, nil
	}
	found, more, err = d.query(ctx, pool, queue, ids)
	if fault.IsUnreadable(err) || fault.IsDoubtful(err) {
		found, more, err = d.listSingly(ctx, pool, queue, ids)
	}
	return found, more, err
}

// query is list in one statement. To end that early, it ends the connection.
func (d deadLetterDetail) query(ctx context.Context, pool *pgxpool.Pool, queue string, ids []int64) (found []backend.FoundDeadLetter, more bool, err error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	err = transact.Run(reading, pool, "", func(tx pgx.Tx) error {
		rows, err := tx.Query(reading, d.sql(queue, "where msg_id = any($1::bigint[]) order by msg_id"), pgx.QueryExecModeCacheDescribe, ids)
		if err != nil {
			return err
		}
		defer rows.Close()
		for size := 0; rows.Next(); {
			one, err := d.scan(rows, queue)
			if err != nil {
				return err
			}
			found = append(found, one)
			if size += memoryOf(one); size > d.most && len(found) < len(ids) {
				more = true
				stop()
				return nil
			}
		}
		return rows.Err()
	})
	if more {
		err = nil // it was stopped
	}
	return found, more, err
}

// memoryOf returns about how many bytes of memory a dead letter takes: short headers take more for what they are than for
// what they say.
func memoryOf(d backend.FoundDeadLetter) int {
	const itself = 256
	size := itself + cap(d.Payload) + (&codec.Headers{Metadata: d.Metadata}).Memory()
	for _, text := range [...]string{d.ID, d.Topic, d.Group, d.Handler, d.Event, d.Reason, d.PublishedTo} {
		size += len(text)
	}
	for name, value := range d.Metadata {
		size += len(name) + len(value)
	}
	return size
}

func (d deadLetterDetail) sql(queue, which string) string {
	return "select " + d.columns + " from " + queuename.Table(queue) + d.also + " " + which
}

func (d deadLetterDetail) queryIn(ctx context.Context, tx pgx.Tx, queue, which string, arg any) ([]backend.FoundDeadLetter, error) {
	rows, err := tx.Query(ctx, d.sql(queue, which), pgx.QueryExecModeCacheDescribe, arg)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (backend.FoundDeadLetter, error) { return d.scan(r, queue) })
}

func (d deadLetterDetail) read(ctx context.Context, pool *pgxpool.Pool, queue string, row int64) (found backend.FoundDeadLetter, err error) {
	err = transact.Run(ctx, pool, "", func(tx pgx.Tx) error {
		found, err = d.readIn(ctx, tx, queue, row)
		return err
	})
	return found, err
}

func (d deadLetterDetail) readIn(ctx context.Context, tx pgx.Tx, queue string, row int64) (backend.FoundDeadLetter, error) {
	found, err := d.queryIn(ctx, tx, queue, "where msg_id = $1", row)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("the dead letter is not there any more: %w", pgx.ErrNoRows)
	}
	if err != nil {
		return backend.FoundDeadLetter{}, err
	}
	return found[0], nil
}

// listSingly reads dead letters of which one cannot be read.
func (d deadLetterDetail) listSingly(ctx context.Context, pool *pgxpool.Pool, queue string, ids []int64) (deadLetters []backend.FoundDeadLetter, more bool, err error) {
	size := 0
	for _, row := range ids {
		if size > d.most {
			return deadLetters, true, nil
		}
		deadLetter, err := d.read(ctx, pool, queue, row)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // it was moved meanwhile
			continue
		case fault.IsUnreadable(err) || fault.IsDoubtful(err):
			deadLetter = backend.FoundDeadLetter{Row: row, Err: fault.Classify("read a dead letter", queue, err)}
		case err != nil:
			return nil, false, err
		}
		deadLetters = append(deadLetters, deadLetter)
		size += memoryOf(deadLetter)
	}
	return deadLetters, false, nil
}

// deadLetterError returns err, with which op has failed on a topic's own queue.
func deadLetterError(ctx context.Context, pool *pgxpool.Pool, op, topic string, err error) error {
	if catalog.HasOnlyGroups(ctx, pool, topic, err) {
		err = &Error{
			Kind: ErrGroupRequired, Cause: catalog.ErrHasGroups,
			Remedy: fmt.Sprintf("ask for %q, where the dead letters of all its groups are, or for the topic of its Poison", topic+backend.DeadLetterSuffix),
		}
	}
	return fault.Classify(op, topic, err)
}
