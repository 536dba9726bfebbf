package lease

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
)

// idSet is the messages that a statement has found.
type idSet map[int64]bool

func (found idSet) collect(rows pgx.Rows) error {
	var id int64
	_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
		found[id] = true
		return nil
	})
	return err
}

// tokenColumns is leases as the columns of a statement.
type tokenColumns struct {
	ids     []int64
	numbers []int32
	times   []time.Time
}

func tokenColumnsOf(all []subscription.Token) (t tokenColumns) {
	for _, token := range all {
		t.add(token)
	}
	return t
}

func (t *tokenColumns) add(token subscription.Token) {
	t.ids = append(t.ids, token.ID)
	t.numbers = append(t.numbers, int32(token.Number)) //nolint:gosec // it came from an integer column
	t.times = append(t.times, token.At)
}

// nackColumns is nacks and releases as the columns of a statement.
type nackColumns struct {
	tokenColumns
	delays   []*int64  // µs; nil: back to its place
	headers  []*string // to merge
	uncounts []int32   // reads to take back
}

func (n *nackColumns) add(s subscription.Settlement, text codec.Encoding) {
	n.tokenColumns.add(s.Token)
	var delay *int64
	var headers *string
	var uncount int32
	released := s.Action == subscription.Release
	if !released && !s.Bare {
		headers = new(codec.Progress(s.Disposition.Fallback, text))
	}
	if !released && !s.Disposition.Fallback.InPlace {
		delay = new(s.Disposition.Fallback.Delay.Microseconds())
	}
	if released || s.Disposition.Fallback.Uncounted {
		uncount = 1
	}
	n.delays = append(n.delays, delay)
	n.headers = append(n.headers, headers)
	n.uncounts = append(n.uncounts, uncount)
}

// deadLetterColumns is dead letters for one table as the columns of a statement.
type deadLetterColumns struct {
	tokenColumns
	headers []string // to merge
}

func (d *deadLetterColumns) add(s subscription.Settlement, from, group string, text codec.Encoding) {
	if s.Bare {
		text = codec.PlainASCII
	}
	d.tokenColumns.add(s.Token)
	d.headers = append(d.headers, codec.DeadLetterHeaders(s.UUID, from, group, s.Disposition.Target.Metadata, text))
}

// encode returns the columns in the binary form of parameters, and their types.
func (d *deadLetterColumns) encode(types *pgtype.Map) (values [][]byte, oids []uint32, err error) {
	oids = []uint32{pgtype.Int8ArrayOID, pgtype.Int4ArrayOID, pgtype.TimestamptzArrayOID, pgtype.TextArrayOID}
	for i, column := range []any{d.ids, d.numbers, d.times, d.headers} {
		value, err := types.Encode(oids[i], pgx.BinaryFormatCode, column, nil)
		if err != nil {
			return nil, nil, err
		}
		values = append(values, value)
	}
	return values, oids, nil
}
