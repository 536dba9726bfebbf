package pgmq

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
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

func (n *nackColumns) add(s subscription.Settlement, text encoding) {
	n.tokenColumns.add(s.Token)
	var delay *int64
	var headers *string
	var uncount int32
	released := s.Action == subscription.Release
	if !released && !s.Bare {
		headers = new(progress(s.Disposition.Fallback, text))
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

func (l *deadLetterColumns) add(s subscription.Settlement, from, group string, text encoding) {
	if s.Bare {
		text = plainASCII
	}
	l.tokenColumns.add(s.Token)
	l.headers = append(l.headers, deadLetterHeaders(s.UUID, from, group, s.Disposition.Target.Metadata, text))
}

// encode returns the columns in the binary form of parameters, and their types.
func (l *deadLetterColumns) encode(types *pgtype.Map) (values [][]byte, oids []uint32, err error) {
	oids = []uint32{pgtype.Int8ArrayOID, pgtype.Int4ArrayOID, pgtype.TimestamptzArrayOID, pgtype.TextArrayOID}
	for i, column := range []any{l.ids, l.numbers, l.times, l.headers} {
		value, err := types.Encode(oids[i], pgx.BinaryFormatCode, column, nil)
		if err != nil {
			return nil, nil, err
		}
		values = append(values, value)
	}
	return values, oids, nil
}

// progress returns the headers that record how far handling a message has come. A name that
// cannot be stored as it is names no handler any more, and that one runs again.
func progress(r backend.Redelivery, text encoding) string {
	names := make([]string, len(r.Done))
	for i, name := range r.Done {
		names[i] = text.storable(name)
	}
	headers, _ := json.Marshal(struct { // it cannot fail: the year of a storableTime is an ordinary one
		Failures int        `json:"ezq_failures"`
		Done     []string   `json:"ezq_done"`
		Unknown  *time.Time `json:"ezq_unknown_since,omitempty"`
	}{r.Failures, names, storableTime(r.UnknownSince)})
	return string(headers)
}

func storableTime(t time.Time) *time.Time {
	if year := t.UTC().Year(); t.IsZero() || year < 0 || year > 9999 {
		return nil
	}
	return new(t.UTC())
}

// deadLetterHeaders returns the headers that a message gets as a dead letter. It
// keeps its id, also if that was made from a row number which is another one in
// the new table, and the name of the queue it comes from: of the queues that a
// topic with groups has, [Client.Redrive] is to fill only that one. What PostgreSQL
// cannot hold of an error's text is replaced.
func deadLetterHeaders(uuid, from, group string, metadata map[string]string, text encoding) string {
	headers := make(map[string]string, len(metadata)+3)
	for key, value := range metadata {
		headers[text.storable(key)] = text.storable(value)
	}
	headers[uuidKey] = text.storable(uuid)
	headers[originKey] = from
	if group != "" {
		headers[groupKey] = group
	}
	encoded, _ := json.Marshal(headers) // strings: it cannot fail
	return string(encoded)
}

// encoding is that of a database, by the name that PostgreSQL has for it.
type encoding string

// plainASCII is what every encoding contains.
const plainASCII encoding = "ASCII"

// storable returns text without what a jsonb string cannot hold in this encoding, as far as
// that is known: of another encoding than these it is found out by trying.
func (e encoding) storable(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	last := utf8.MaxRune
	switch e {
	case "UTF8", "SQL_ASCII", "":
		return strings.ReplaceAll(text, "\x00", "\uFFFD")
	case "LATIN1":
		last = 0xFF
	case plainASCII:
		last = 0x7F
	}
	return strings.Map(func(r rune) rune {
		if r == 0 || r == utf8.RuneError || r > last {
			return '?'
		}
		return r
	}, text)
}
