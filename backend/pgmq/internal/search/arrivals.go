package search

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
)

//go:embed sql/arrivals.sql
var arrivalsSQL string

const (
	// maxArrivalRows is how many ids are looked at in a table.
	maxArrivalRows = 10_000

	// MaxArrivals is how many messages are read at most.
	MaxArrivals = 200
)

// Arrivals chooses messages of a queue, and of its archive, by their ids.
type Arrivals struct {
	Group  string
	After  int64                // the id behind which to begin
	Newest int                  // if it is not 0: the newest so many, and not the oldest
	Known  func(row int64) bool // those that are left out; nil for none
}

// Arrival is a message with its id.
type Arrival struct {
	Row int64
	backend.Found
}

// Find returns the messages, in the order of their ids. One that is in the queue and in the archive is there once. An archive
// that the role may not read is a [backend.TruncatedError] beside the messages of the queue.
func (a Arrivals) Find(ctx context.Context, s Search, topic string) (found []Arrival, err error) {
	chosen, err := newChoice(topic, backend.Selection{})
	if err != nil {
		return nil, err
	}
	own, err := peekedTable(ctx, s, topic, a.Group, chosen)
	if err != nil || own.name == "" {
		return nil, err
	}
	archive := table{name: queuename.Archive(own.queue), queue: own.queue, place: backend.InArchive, letters: own.letters}
	there, err := describe(ctx, s.Pool, []table{own, archive}, chosen)
	if err != nil {
		return nil, err
	}
	seen := map[int64]bool{}
	slices.SortFunc(there, func(x, y table) int { return cmp.Compare(x.place, y.place) }) // what moves from one to the other meanwhile is not missed
	var left error
	for _, t := range there {
		more, err := a.of(ctx, peek{s, chosen, t}, seen)
		found = append(found, more...)
		switch known, ok := errors.AsType[*fault.Error](err); {
		case fault.IsCode(err, "42P01"): // it was dropped meanwhile
		case t.place == backend.InArchive && ok && errors.Is(known, fault.ErrPermission):
			left = &backend.TruncatedError{Tables: []string{t.name}, Reason: "the role may not read what was acked", Remedy: known.Remedy}
		case err != nil:
			return found, err
		}
	}
	slices.SortFunc(found, func(x, y Arrival) int { return cmp.Compare(x.Row, y.Row) })
	if a.Newest > 0 && len(found) > a.Newest {
		found = found[len(found)-a.Newest:]
	}
	return found, left
}

// of returns the messages of a table, those aside that are seen.
func (a Arrivals) of(ctx context.Context, k peek, seen map[int64]bool) (found []Arrival, err error) {
	if err := k.table.check("SELECT"); err != nil {
		return nil, err
	}
	order, limit := "asc", maxArrivalRows
	if a.Newest > 0 {
		order, limit = "desc", min(a.Newest, MaxArrivals)
	}
	var ids []int64
	err = k.search.run(ctx, func(tx pgx.Tx) error {
		sql := strings.NewReplacer("{table}", k.table.name, "{order}", order).Replace(sqlfile.Text(arrivalsSQL))
		rows, err := tx.Query(ctx, sql, pgx.QueryExecModeCacheDescribe, a.After, limit)
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id int64) bool { return seen[id] || a.Known != nil && a.Known(id) })
	memory := k.search.MaxMemory
	texts := reader{search: k.search, chosen: k.chosen, table: k.table, room: &memory}
	for some := range slices.Chunk(ids[:min(len(ids), MaxArrivals)], peekBatch) {
		read, err := texts.read(ctx, some, maxText)
		for _, id := range some {
			if one, ok := read[id]; ok {
				seen[id], found = true, append(found, Arrival{Row: id, Found: one})
			}
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}
