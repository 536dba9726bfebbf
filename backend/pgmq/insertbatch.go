package pgmq

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// insertBatch is messages as the columns of an insert.
type insertBatch struct {
	messages []string
	headers  []string
	delays   []int64 // µs
	times    []*time.Time
	size     batchSize
}

// encode turns messages into rows. It refuses what could not be stored, or not
// be received as it was sent, before anything is sent.
func encode(msgs []*message.Message, maxPayload int) (insertBatch, error) {
	raw := batchSize{messages: len(msgs)}
	for i, msg := range msgs {
		if msg == nil {
			return insertBatch{}, &Error{
				Kind: ErrInvalidMessage, Cause: fmt.Errorf("number %d of %d is nil", i+1, len(msgs)), Remedy: "publish what message.NewMessage returns",
			}
		}
		raw.bytes += len(msg.Payload)
	}
	if err := raw.check(); err != nil {
		return insertBatch{}, err // before it takes as much memory again
	}
	r := insertBatch{
		messages: make([]string, len(msgs)),
		headers:  make([]string, len(msgs)),
		delays:   make([]int64, len(msgs)),
		times:    make([]*time.Time, len(msgs)),
	}
	for i, msg := range msgs {
		if err := r.set(i, msg, maxPayload); err != nil {
			return insertBatch{}, err
		}
	}
	return r, r.size.check()
}

func (r *insertBatch) len() int { return len(r.messages) }

func (r *insertBatch) append(other insertBatch) {
	r.messages = append(r.messages, other.messages...)
	r.headers = append(r.headers, other.headers...)
	r.delays = append(r.delays, other.delays...)
	r.times = append(r.times, other.times...)
	r.size = r.size.plus(other.size)
}

func (r *insertBatch) set(i int, msg *message.Message, maxPayload int) error {
	if len(msg.Payload) > maxPayload {
		return payloadTooLarge(len(msg.Payload), maxPayload)
	}
	delay, at, err := backend.DelayOf(msg)
	if err != nil {
		return &Error{Kind: ErrInvalidMessage, Cause: err, Remedy: "set it with ezq.Delay or backend.SetDelay"}
	}
	r.delays[i] = delay.Microseconds()
	metadata := msg.Metadata
	if delay > 0 || !at.IsZero() {
		metadata = maps.Clone(metadata)
		backend.ClearDelay(metadata)
	}
	if !at.IsZero() {
		r.times[i] = &at
	}
	var encoding string
	r.messages[i], encoding = encodePayload(metadata, msg.Payload)
	r.headers[i], err = encodeHeaders(msg.UUID, metadata, encoding)
	r.size = r.size.plus(batchSize{messages: 1, bytes: len(r.messages[i]) + len(r.headers[i])})
	return err
}

func payloadTooLarge(size, limit int) error {
	return &Error{
		Kind:   ErrTooLarge,
		Cause:  fmt.Errorf("the payload has %d bytes, and the limit is %d", size, limit),
		Remedy: "store it elsewhere and send a reference, or raise MaxPayloadBytes",
	}
}

// row is a claimed message as it comes from the table.
type row struct {
	ID          int64
	Number      int32
	ReadAt      time.Time
	PublishedAt time.Time
	VisibleAt   time.Time
	Message     borrowed // null only if another program wrote it
	Headers     borrowed // null if another program wrote it
	Known       bool     // it was leased before, or there is nothing to tell it by
}

// borrowed is text in the memory of pgx, until the next row.
type borrowed []byte

// ScanBytes implements [pgtype.BytesScanner].
func (b *borrowed) ScanBytes(text []byte) error {
	*b = text
	return nil
}

var _ pgtype.BytesScanner = (*borrowed)(nil)

// withoutText returns the row without what it says, which is in borrowed memory.
func (r row) withoutText() row {
	r.Message, r.Headers = nil, nil
	return r
}

func (r row) token() subscription.Token {
	return subscription.Token{ID: r.ID, Number: int(r.Number), At: r.ReadAt}
}

// lease turns a row into a message. It reads messages of any program: content
// that is not in ezq's form is passed on as it is. Headers that others write in
// ezq's name are forged: see [headers.dropForged].
func (r *row) lease(topic, queue string, sql *statements, d *delivery) (lease subscription.Lease, forged forgery) {
	msg := message.NewMessage("", nil)
	headers := headers{metadata: msg.Metadata}
	_ = headers.decode(r.Headers) // of what is not headers, nothing is known
	if !r.Known {
		forged = headers.dropForged(queue)
		forged.token = r.token()
	}
	payload, err := decodePayload(r.Message, headers.encoding)
	if err != nil {
		payload = bytes.Clone(r.Message)
	}
	if headers.uuid == "" {
		headers.uuid = defaultID(queue, r.ID)
	}
	msg.UUID, msg.Payload = headers.uuid, payload
	d.Number = int(r.Number)
	d.DeadLetters, d.Progress = true, true
	d.Failures, d.Done, d.UnknownSince = headers.failures, headers.done, headers.unknown
	d.PublishedAt = r.PublishedAt
	d.receipt.topic, d.receipt.queue, d.receipt.sql = topic, queue, sql
	d.Receipt = &d.receipt
	return subscription.Lease{Token: r.token(), Message: msg, Delivery: &d.Delivery}, forged
}

// delivery is what is allocated together.
type delivery struct {
	backend.Delivery
	receipt receipt
}
