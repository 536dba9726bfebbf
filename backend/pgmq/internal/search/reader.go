package search

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// MaxMemory is how many bytes of memory the payloads and metadata of messages may take that are found at once.
const MaxMemory = 128 << 20

// readTogether is how many messages are read in one statement.
const readTogether = 50

// reader reads messages of a table, until what they say takes too much memory or time. Of the others it reads what does not
// depend on their texts.
type reader struct {
	search Search
	chosen choice
	table  table
	room   *int      // bytes of memory that are left
	until  time.Time // when the time is up to read texts; zero before the first
	failed error     // why messages are read one by one
	left   unread
}

// unread is how many messages there are of which no text was read.
type unread struct{ heavy, late int }

// reasons returns why, in words.
func (u unread) reasons(s Search) (all []string) {
	if u.heavy > 0 {
		all = append(all, fmt.Sprintf("the payloads and headers of %d messages were left out, since those before them take %d KiB of memory", u.heavy, s.MaxMemory>>10))
	}
	if u.late > 0 {
		all = append(all, fmt.Sprintf("the payloads and headers of %d messages were left out, since those before them took %v to read", u.late, s.Timeout))
	}
	return all
}

// read reads the messages with these ids, and most bytes of their text each.
func (r *reader) read(ctx context.Context, ids []int64, most int) (map[int64]backend.Found, error) {
	if r.until.IsZero() {
		r.until = time.Now().Add(r.search.Timeout)
	}
	found := map[int64]backend.Found{}
	for some := range slices.Chunk(ids, readTogether) {
		more, err := r.readSome(ctx, some, most)
		maps.Copy(found, more)
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// readSome reads a few messages. If one of them cannot be read, it reads them and all later ones one by one, and if that takes long,
// the others without their text: each of them may take as long as a statement may.
func (r *reader) readSome(ctx context.Context, ids []int64, most int) (map[int64]backend.Found, error) {
	if r.failed == nil && !r.isOver() {
		found, err := r.query(ctx, ids, most)
		if !mayBeOfOne(err) {
			return found, err
		}
		r.failed, r.until = err, time.Now().Add(r.search.Timeout)
	}
	found := map[int64]backend.Found{}
	for ; len(ids) > 0; ids = ids[1:] {
		if r.isOver() {
			others, err := r.readOthers(ctx, ids)
			maps.Copy(found, others)
			return found, err
		}
		one, err := r.query(ctx, ids[:1], most)
		if mayBeOfOne(err) {
			r.failed = err
			one, err = r.readHeads(ctx, ids[:1], fault.Classify("read a message", r.table.queue, err))
		}
		if err != nil {
			return found, err
		}
		maps.Copy(found, one)
	}
	return found, nil
}

func mayBeOfOne(err error) bool { return fault.IsUnreadable(err) || fault.IsDoubtful(err) }

// isOver reports whether no more texts are read.
func (r *reader) isOver() bool { return *r.room <= 0 || !time.Now().Before(r.until) }

// readOthers reads the messages for the texts of which there is no memory or no time.
func (r *reader) readOthers(ctx context.Context, ids []int64) (found map[int64]backend.Found, err error) {
	left, count := r.leftOut(), &r.left.heavy
	if *r.room > 0 {
		count = &r.left.late
		if left = r.late(); r.failed != nil {
			left = fault.Classify("read a message", r.table.queue, r.failed)
		}
	}
	if found, err = r.readHeads(ctx, ids, left); mayBeOfOne(err) {
		found = map[int64]backend.Found{}
		for err = nil; len(ids) > 0 && err == nil; ids = ids[1:] {
			var one map[int64]backend.Found
			one, err = r.readHeads(ctx, ids[:1], left)
			maps.Copy(found, one)
		}
	}
	*count += len(found)
	return found, err
}

// leftOut is why there was no memory for a message.
func (r *reader) leftOut() error {
	return &fault.Error{
		Op: "read a message", Kind: fault.ErrTooLarge, Cause: fmt.Errorf("there are %d KiB of payloads and headers before it", r.search.MaxMemory>>10),
		Remedy: "find it by its ID",
	}
}

func (r *reader) late() error {
	return &fault.Error{
		Op: "read a message", Cause: fmt.Errorf("those before it took %v to read", r.search.Timeout), Remedy: "find it by its ID",
	}
}

// readHeads reads messages without their texts, for the reason left.
func (r *reader) readHeads(ctx context.Context, ids []int64, left error) (map[int64]backend.Found, error) {
	found, err := r.query(ctx, ids, noText)
	for id, f := range found {
		f.Err, f.Metadata = left, nil
		found[id] = f
	}
	return found, err
}

// query reads messages in one statement. When they have taken the memory, it skips the texts of the others.
func (r *reader) query(ctx context.Context, ids []int64, most int) (found map[int64]backend.Found, err error) {
	room, left := *r.room, r.left
	err = r.search.run(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, readStatement(r.chosen, r.table), append([]any{pgx.QueryExecModeCacheDescribe}, r.chosen.arguments(r.table, ids, most)...)...)
		if err != nil {
			return err
		}
		found, err = r.scan(rows, most)
		return err
	})
	if err != nil {
		*r.room, r.left = room, left // what was read counts no more
	}
	return found, err
}

// scan returns the messages in rows by their ids.
func (r *reader) scan(rows pgx.Rows, most int) (map[int64]backend.Found, error) {
	var one row
	byID := map[int64]backend.Found{}
	_, err := pgx.ForEachRow(rows, one.targets(), func() error {
		skip := most >= 0 && *r.room <= 0
		if skip {
			one.message, one.headers = nil, nil
			r.left.heavy++
		}
		f, size := one.found(r.chosen, r.table)
		if *r.room -= size; skip {
			f.Err, f.Metadata = r.leftOut(), nil
		}
		byID[one.id] = f
		return nil
	})
	return byID, err
}
