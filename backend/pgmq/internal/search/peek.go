package search

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
)

//go:embed sql/peek.sql
var peekSQL string

// maxPeekRows is how many rows a peek looks at, behind the time at which it begins.
const maxPeekRows = 10_000

const (
	// peekBatch is how many messages are read in one statement.
	peekBatch = 10

	// maxPeekMemory is how many bytes of memory the payloads and metadata may take of the messages of one peek.
	maxPeekMemory = 16 << 20
)

// PeekedQueue returns the queue that a peek looks at.
func PeekedQueue(topic, group string) (string, error) {
	if group == "" {
		return queuename.Of(topic)
	}
	return queuename.OfGroup(topic, group)
}

// peek looks at the messages of one table.
type peek struct {
	search Search
	chosen choice
	table  table
}

// Peek returns the messages of a queue that are due next, behind a place.
func Peek(ctx context.Context, search Search, topic string, p backend.Peek) ([]backend.Peeked, error) {
	chosen, err := newChoice(topic, backend.Selection{})
	if err != nil {
		return nil, err
	}
	t, err := peekedTable(ctx, search, topic, p.Group, chosen)
	if err == nil && t.name != "" {
		err = t.check("SELECT")
	}
	if err != nil || t.name == "" {
		return nil, err
	}
	search.MaxMemory = min(search.MaxMemory, maxPeekMemory)
	one := peek{search, chosen, t}
	places, left := one.places(ctx, p)
	found, err := one.read(ctx, places)
	if err = cmp.Or(err, left); fault.IsCode(err, "42P01") { // it was dropped meanwhile
		return nil, nil
	}
	return found, err
}

// peekedTable returns the table of a queue, or one without a name.
func peekedTable(ctx context.Context, s Search, topic, group string, chosen choice) (table, error) {
	queue, err := PeekedQueue(topic, group)
	if err != nil {
		return table{}, err
	}
	t := table{name: queuename.Table(queue), queue: queue, place: backend.InTopic}
	switch {
	case group != "":
		t.place = backend.InGroup
	case strings.HasSuffix(topic, backend.DeadLetterSuffix):
		t.place, t.letters = backend.InDeadLetters, true
	}
	there, err := describe(ctx, s.Pool, []table{t}, chosen)
	if err != nil || len(there) == 0 {
		return table{}, err
	}
	return there[0], nil
}

// places returns the places of messages. If there are fewer than were asked for, although rows were left out, an error says so.
func (k peek) places(ctx context.Context, p backend.Peek) (places []backend.PeekPlace, err error) {
	after, err := backend.ParsePeekPlace(p.After)
	if err != nil {
		return nil, err
	}
	limit := cmp.Or(p.Limit, backend.DefaultPeekLimit)
	left := false
	err = k.search.run(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, strings.ReplaceAll(sqlfile.Text(peekSQL), "{table}", k.table.name), pgx.QueryExecModeCacheDescribe,
			timeOf(after.Due), after.Row, maxPeekRows, limit)
		if err != nil {
			return err
		}
		places, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (p backend.PeekPlace, err error) {
			var due pgtype.Timestamptz
			err = r.Scan(&p.Row, &due)
			p.Due = microsOf(due)
			return p, err
		})
		if err == nil && len(places) < limit {
			err = tx.QueryRow(ctx, fmt.Sprintf("select count(*) = $2::bigint from (select from %s where vt >= $1::timestamptz order by vt limit $2::bigint) as seen", k.table.name),
				pgx.QueryExecModeCacheDescribe, timeOf(after.Due), maxPeekRows).Scan(&left)
		}
		return err
	})
	if err == nil && left {
		err = &backend.TruncatedError{
			Tables: []string{k.table.name}, Reason: fmt.Sprintf("%d messages or more are due at one time, and no more were looked at", maxPeekRows),
			Remedy: "look for those behind them by their IDs",
		}
	}
	return places, err
}

// read reads the messages at places, a few at a time, and no more payloads than a peek returns.
func (k peek) read(ctx context.Context, places []backend.PeekPlace) (found []backend.Peeked, err error) {
	room, memory := backend.MaxPeekPayloads, k.search.MaxMemory
	texts := reader{search: k.search, chosen: k.chosen, table: k.table, room: &memory}
	for some := range slices.Chunk(places, peekBatch) {
		ids := make([]int64, len(some))
		for i, p := range some {
			ids[i] = p.Row
		}
		most := maxText
		if room <= 0 {
			most = 0
		}
		read, err := texts.read(ctx, ids, most)
		for _, p := range some {
			one, ok := read[p.Row]
			if !ok {
				continue
			}
			if room -= len(one.Payload); room < 0 {
				one.Payload = nil
			}
			found = append(found, backend.Peeked{Found: one, After: p.String()})
		}
		if err != nil {
			return found, err
		}
	}
	if reasons := texts.left.reasons(k.search); len(reasons) > 0 {
		return found, &backend.TruncatedError{
			Tables: []string{k.table.name}, Reason: strings.Join(reasons, ", and "), Remedy: "peek again behind the last one before the first that has an Err, or look for those by their IDs",
		}
	}
	return found, nil
}

// timeOf returns the time that is so many microseconds after 1970.
func timeOf(micros int64) pgtype.Timestamptz {
	const earliest = -210_866_803_200_000_000 // that PostgreSQL has
	t := pgtype.Timestamptz{Valid: true}
	switch {
	case micros < earliest:
		t.InfinityModifier = pgtype.NegativeInfinity
	case micros == math.MaxInt64:
		t.InfinityModifier = pgtype.Infinity
	default:
		t.Time = time.UnixMicro(micros)
	}
	return t
}

// microsOf is the reverse of timeOf.
func microsOf(t pgtype.Timestamptz) int64 {
	switch t.InfinityModifier {
	case pgtype.NegativeInfinity:
		return math.MinInt64
	case pgtype.Infinity:
		return math.MaxInt64
	}
	return t.Time.UnixMicro()
}
