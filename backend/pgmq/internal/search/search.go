package search

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// What a search of one table may take.
const (
	MaxRows = 100_000
	Timeout = 10 * time.Second
)

// Search looks for messages of a topic. Its errors are those of package fault, and several of them are
// joined: one for what it has not looked at, a [backend.TruncatedError], and one for each table that it cannot search.
type Search struct {
	Pool    *pgxpool.Pool
	MaxRows int // of each table, unless an index finds what is chosen
	Timeout time.Duration

	MaxMemory int // bytes of memory that payloads and metadata may take
}

//go:embed sql/search.sql
var searchSQL string

// Find returns what the selection chooses of the messages of topic, in all of its queues and archives.
func (s Search) Find(ctx context.Context, op, topic string, selection backend.Selection) (found []backend.Found, err error) {
	limit, room := cmp.Or(selection.Limit, backend.DefaultFindLimit), s.MaxMemory
	err = s.each(ctx, op, topic, selection, true, func(chosen choice, t table) (missed, error) {
		if len(found) >= limit {
			return missed{}, nil
		}
		more, left, err := s.find(ctx, chosen, t, limit-len(found), &room)
		found = append(found, more...)
		return left, err
	})
	return found, err
}

// Cancel deletes what waits of the messages that selection chooses, in the queues of topic.
func (s Search) Cancel(ctx context.Context, op, topic string, selection backend.Selection) (backend.Cancelled, error) {
	total, err := change{sql: deleteSQL, privileges: deletePrivileges}.run(ctx, s, op, topic, selection)
	return backend.Cancelled{Removed: total.waiting, Busy: total.busy}, err
}

const (
	deleteSQL        = "delete from {table}"
	deletePrivileges = "SELECT, UPDATE (vt), DELETE"
)

// How long to try again to delete what is locked, and how often: consumers lock what they have fetched for a moment.
const (
	lockPatience = 2 * time.Second
	lockInterval = 50 * time.Millisecond
)

// CancelRunning deletes the messages that selection chooses, in the queues of topic, also those that consumers have. It calls stop for
// each queue where it has deleted one of these.
func (s Search) CancelRunning(ctx context.Context, op, topic string, selection backend.Selection, stop func(queue string)) (backend.Cancelled, error) {
	c := change{sql: deleteSQL, privileges: deletePrivileges, running: true, after: func(queue string, done changed) {
		if done.running > 0 {
			stop(queue)
		}
	}}
	var total changed
	for begin := time.Now(); ; {
		one, err := c.run(ctx, s, op, topic, selection)
		total = total.plus(one)
		total.busy = one.busy
		if err != nil || one.busy == 0 || time.Since(begin) > lockPatience || !transact.Wait(ctx, lockInterval) {
			return backend.Cancelled{Removed: total.waiting, Stopped: total.running, Busy: total.busy}, err
		}
	}
}

// rescheduleSQL moves messages to the time $10, or if that is null, to now. One that is due already keeps its place
// then.
const rescheduleSQL = "update {table} set vt = case when $10::timestamptz > clock_timestamp() then $10::timestamptz else least(vt, clock_timestamp()) end"

// Reschedule moves what waits of the messages that selection chooses, in the queues of topic, to another
// time. It calls wake for each queue where it has moved one.
func (s Search) Reschedule(ctx context.Context, op, topic string, selection backend.Selection, at time.Time, wake func(queue string)) (backend.Rescheduled, error) {
	var to *time.Time
	if at.After(time.Unix(0, 0)) { // an earlier one is over, and perhaps earlier than PostgreSQL can tell
		to = &at
	}
	total, err := change{sql: rescheduleSQL, privileges: "SELECT, UPDATE (vt)", arguments: []any{to}, after: func(queue string, done changed) {
		if done.waiting > 0 {
			wake(queue)
		}
	}}.run(ctx, s, op, topic, selection)
	return backend.Rescheduled{Moved: total.waiting, Busy: total.busy}, err
}

// each does something with each table of topic, which says what it has not looked at. It goes on with the next one as far as that makes sense, and says at the end what was left out.
func (s Search) each(ctx context.Context, op, topic string, selection backend.Selection, all bool, do func(choice, table) (missed, error)) error {
	chosen, err := newChoice(topic, selection)
	if err != nil {
		return fault.Classify(op, topic, err)
	}
	tables, err := listTables(ctx, s.Pool, topic, chosen, all)
	if err != nil {
		return fault.Classify(op, topic, err)
	}
	left := omissions{search: s, chosen: chosen}
	for _, t := range tables {
		one, err := do(chosen, t)
		if err = left.add(t, one, err); err != nil {
			return fault.Classify(op, topic, err)
		}
	}
	return left.error(op, topic)
}

// find returns what is chosen of one table, and what was not looked at. room is how much memory is left for that.
func (s Search) find(ctx context.Context, chosen choice, t table, limit int, room *int) (found []backend.Found, left missed, err error) {
	if err := t.check("SELECT"); err != nil {
		return nil, missed{}, err
	}
	var ids []int64
	left.slow, err = s.look(ctx, chosen, func(chosen choice, tx pgx.Tx) error {
		return tx.QueryRow(ctx, chosen.statement(searchSQL, t),
			append([]any{pgx.QueryExecModeCacheDescribe}, chosen.arguments(t, s.MaxRows, limit)...)...).Scan(&ids, &left.rest, &left.large)
	})
	if err != nil || len(ids) == 0 {
		return nil, left, err
	}
	texts := reader{search: s, chosen: chosen, table: t, room: room}
	read, err := texts.read(ctx, ids, maxText)
	left.unread = texts.left
	for _, id := range ids {
		if one, ok := read[id]; ok {
			found = append(found, one)
		}
	}
	return found, left, err
}

// look looks at a table, and if that takes too long, once more at those rows alone that are read fast: rows that are never due
// must not hide the others for good.
func (s Search) look(ctx context.Context, chosen choice, do func(chosen choice, tx pgx.Tx) error) (slow bool, err error) {
	err = s.run(ctx, func(tx pgx.Tx) error { return do(chosen, tx) })
	if !fault.IsCode(err, "57014") || ctx.Err() != nil { // query_canceled
		return false, err
	}
	chosen.small = true
	return true, s.run(ctx, func(tx pgx.Tx) error { return do(chosen, tx) })
}

// run runs statements in a transaction that no statement of it keeps for long.
func (s Search) run(ctx context.Context, do func(tx pgx.Tx) error) error {
	return transact.Run(ctx, s.Pool, fmt.Sprintf("statement_timeout = %d", max(s.Timeout.Milliseconds(), 1)), do)
}

// missed is what was not looked at in a table: rows beyond the first, those that take long to read, and with slow set
// those too that take longer than the fastest; and texts of messages that were found.
type missed struct {
	rest, large, slow bool
	unread
}

// omissions is what was not looked at.
type omissions struct {
	search    Search
	chosen    choice
	truncated backend.TruncatedError
	unread    bool     // not all texts were read
	indexes   []string // with which all is looked at
	floods    []string // tables in which an index finds more than is looked at
	listings  []string // of what is left out in any case
	others    []error
}

// add notes what was missed in t, and returns err if the search cannot go on.
func (o *omissions) add(t table, left missed, err error) error {
	var known *fault.Error
	switch {
	case fault.IsCode(err, "42P01"): // it was dropped meanwhile
	case fault.IsCode(err, "57014"): // query_canceled
		o.tooMany(t)
		o.truncate(t, fmt.Sprintf("a statement took longer than %v", o.search.Timeout))
	case errors.As(err, &known):
		o.others = append(o.others, err)
	case err != nil:
		return err
	default:
		o.addMissed(t, left)
	}
	return nil
}

func (o *omissions) addMissed(t table, left missed) {
	var reasons []string
	switch {
	case left.slow && o.chosen.readsMessages():
		reasons = append(reasons, fmt.Sprintf("a statement took longer than %v, and messages with large headers or payloads were left out", o.search.Timeout))
	case left.slow:
		reasons = append(reasons, fmt.Sprintf("a statement took longer than %v, and messages with large headers were left out", o.search.Timeout))
	case left.large:
		reasons = append(reasons, fmt.Sprintf("messages whose headers take more than %d KiB were left out", codec.MaxStoredHeaders>>10))
		o.listings = append(o.listings, fmt.Sprintf("select msg_id from %s where pg_column_size(headers) > %d", t.name, codec.MaxStoredHeaders))
	}
	switch _, indexed := o.chosen.indexed(t); {
	case left.rest && indexed:
		reasons = append(reasons, fmt.Sprintf("only the newest %d of the rows that have it were looked at", o.search.MaxRows))
	case left.rest:
		reasons = append(reasons, fmt.Sprintf("only the newest %d rows were looked at", o.search.MaxRows))
	}
	if left.slow || left.rest {
		o.tooMany(t)
	}
	if why := left.reasons(o.search); len(why) > 0 {
		reasons, o.unread = append(reasons, why...), true
	}
	if len(reasons) > 0 {
		o.truncate(t, strings.Join(reasons, ", and "))
	}
}

// tooMany notes that t has more than is looked at, also by an index, if there is one.
func (o *omissions) tooMany(t table) {
	if _, ok := o.chosen.indexed(t); ok {
		o.floods = append(o.floods, t.name)
	} else {
		o.indexes = append(o.indexes, o.chosen.remedy(t))
	}
}

func (o *omissions) truncate(t table, reason string) {
	switch {
	case o.truncated.Reason == "":
		o.truncated.Reason = reason
	case !strings.Contains(o.truncated.Reason, reason):
		o.truncated.Reason += ", or " + reason
	}
	o.truncated.Tables = append(o.truncated.Tables, t.name)
}

func (o *omissions) error(op, topic string) error {
	var all []error
	if len(o.truncated.Tables) > 0 {
		o.truncated.Remedy = o.remedy()
		all = append(all, fault.Classify(op, topic, &o.truncated))
	}
	for _, err := range o.others {
		all = append(all, fault.Classify(op, topic, err))
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

func (o *omissions) remedy() string {
	var remedies []string
	if len(o.indexes) > 0 {
		remedies = append(remedies, "to look at all of them, let the owner run "+strings.Join(o.indexes, "; "))
	}
	if len(o.floods) > 0 {
		remedies = append(remedies, "see which publisher has stored so many rows that are alike, or so large ones, in "+strings.Join(o.floods, ", ")+", and delete those")
	}
	if len(o.listings) > 0 {
		remedies = append(remedies, "to see those, which no consumer takes, run "+strings.Join(o.listings, "; "))
	}
	if o.unread {
		remedies = append(remedies, "to read those of which the Err is set, find them by their IDs")
	}
	return strings.Join(remedies, "; ")
}
