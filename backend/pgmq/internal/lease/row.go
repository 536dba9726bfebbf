package lease

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Row is a claimed message as it comes from the table.
type Row struct {
	ID          int64
	Number      int32
	ReadAt      time.Time
	PublishedAt time.Time
	VisibleAt   time.Time
	Message     transact.Borrowed // null only if another program wrote it
	Headers     transact.Borrowed // null if another program wrote it
	Known       bool              // it was leased before, or there is nothing to tell it by
}

// withoutText returns the row without what it says, which is in borrowed memory.
func (r Row) withoutText() Row {
	r.Message, r.Headers = nil, nil
	return r
}

func (r Row) token() subscription.Token {
	return subscription.Token{ID: r.ID, Number: int(r.Number), At: r.ReadAt}
}

// lease turns a row into a message. It reads messages of any program: content
// that is not in ezq's form is passed on as it is. Headers that others write in
// ezq's name are forged: see [codec.Headers.DropForged].
func (r *Row) lease(topic, queue string, sql *statement.Set, d *delivery) (lease subscription.Lease, forged forgery) {
	msg := message.NewMessage("", nil)
	headers := codec.Headers{Metadata: msg.Metadata}
	_ = headers.Decode(r.Headers) // of what is not headers, nothing is known
	if !r.Known {
		forged.progress, forged.named = headers.DropForged(queue)
		forged.token = r.token()
	}
	headers.DropTaken(queue, r.ID)
	payload, err := codec.DecodePayload(r.Message, headers.Encoding)
	if err != nil {
		payload = bytes.Clone(r.Message)
	}
	if headers.UUID == "" {
		headers.UUID = codec.DefaultID(queue, r.ID)
	}
	msg.UUID, msg.Payload = headers.UUID, payload
	d.Number = int(r.Number)
	d.DeadLetters, d.Progress = true, true
	d.Failures, d.Done, d.UnknownSince = headers.Failures, headers.Done, headers.Unknown
	d.PublishedAt, d.PublishedTo = r.PublishedAt, headers.PublishedTo(topic)
	d.receipt.Topic, d.receipt.Queue, d.receipt.sql = topic, queue, sql
	d.Receipt = &d.receipt
	size := memoryOverhead + len(r.Message) + len(r.Headers) + headers.Memory()
	return subscription.Lease{Token: r.token(), Message: msg, Delivery: &d.Delivery, Size: size}, forged
}

// Decode returns the message of a row of queue, which counts as leased before: what its headers say is
// believed.
func (r Row) Decode(queue string) *message.Message {
	r.Known = true
	lease, _ := r.lease("", queue, nil, &delivery{})
	return lease.Message
}

// delivery is what is allocated together.
type delivery struct {
	backend.Delivery
	receipt Receipt
}

func scanLeasedRows(rows pgx.Rows) (leased []Row, err error) {
	var r Row
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Number, &r.ReadAt, &r.Known}, func() error {
		leased = append(leased, r)
		return nil
	})
	slices.SortFunc(leased, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	return leased, err
}

func rowIDs(rows []Row) []int64 {
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}
