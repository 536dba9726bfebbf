package pgmq

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

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

func scanLeasedRows(rows pgx.Rows) (leased []row, err error) {
	var r row
	_, err = pgx.ForEachRow(rows, []any{&r.ID, &r.Number, &r.ReadAt, &r.Known}, func() error {
		leased = append(leased, r)
		return nil
	})
	slices.SortFunc(leased, func(a, b row) int { return cmp.Compare(a.ID, b.ID) })
	return leased, err
}

func rowIDs(rows []row) []int64 {
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}
