package pgmq

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/sparse"
)

// A role that may insert can store a message that cannot be read: 300 stored
// bytes of JSON numbers can be a hundred megabytes when PostgreSQL writes them
// out, or more than it can write. Because the oldest messages are claimed first,
// one such message would keep every consumer from all others. It is examined apart,
// see [store.screen], and ends up in the archive.

// unread is a leased message that cannot be read, or perhaps cannot.
type unread struct {
	row      row   // without what it says
	cause    error // nil if it is not certain
	doubtful bool  // PostgreSQL itself may be in trouble, and not the message
}

const (
	// readTimeout is how long PostgreSQL may take to read one message.
	readTimeout = 3 * time.Second

	// maxHidden is how long a message is invisible that cannot be archived, and how
	// long at most one that perhaps can be read the next time.
	maxHidden = time.Hour
)

// hiddenFor returns how long the message stays invisible: one that PostgreSQL had no
// time or no memory to read comes back after 2 seconds, then 4, and so on, so that
// a server in trouble delays healthy messages little, and a message that is to
// blame soon takes hardly any of its time.
func (u unread) hiddenFor() time.Duration {
	if !u.doubtful {
		return maxHidden
	}
	return min(time.Second<<min(u.row.Number, 12), maxHidden)
}

func sizeError(size int64, limit int) error {
	if size < 0 {
		return fmt.Errorf("the headers have %d bytes, and the limit is %d", -size, maxHeaders)
	}
	return fmt.Errorf("the message has %d bytes, and MaxMessageBytes is %d", size, limit)
}

// isUnreadable reports whether PostgreSQL failed because of what is stored: it is
// larger than PostgreSQL can write or count, damaged, or has no form in the client's encoding.
func isUnreadable(err error) bool {
	return isCode(err, "22003", "22008", "54000", "54001", "22021", "22P05", "XX001", "XX002")
}

// isDoubtful reports whether PostgreSQL may have failed because of what it was to
// read: it was out of memory or out of time, or has found a bug in itself.
func isDoubtful(err error) bool {
	return isCode(err, "53200", "57014", "XX000")
}

// headers returns what the message is marked with.
func (u unread) headers(text encoding) *string {
	if u.doubtful {
		return nil
	}
	reason, _ := json.Marshal(map[string]string{ // strings: it cannot fail
		backend.DeadLetterReason: text.storable(u.cause.Error()),
		backend.DeadLetterAt:     time.Now().UTC().Format(time.RFC3339),
	})
	headers := string(reason)
	return &headers
}

// quarantine moves messages to the archive of their queue, which does not read
// them, and notes why. If the archive cannot be used, they stay, invisible. It returns those for
// which it would have to wait, since a table is locked: that is no message's fault.
func (s *store) quarantine(ctx context.Context, db *pgxpool.Pool, unreadable []unread) (locked []unread) {
	if len(unreadable) == 0 {
		return nil
	}
	return s.tryQuarantine(ctx, db, unreadable, s.quarantineSteps(ctx))
}

// hide has messages stay, invisible, that can perhaps be read the next time.
func (s *store) hide(ctx context.Context, db *pgxpool.Pool, doubtful []unread) {
	s.tryQuarantine(ctx, db, doubtful, []quarantineStep{hideOnly()})
}

// quarantineStep is one way to put messages away.
type quarantineStep struct {
	archive       string // the statement that moves them; "" if they stay
	merge         bool   // the reason is added to their headers, or else replaces them
	withoutReason bool   // they get no reason
}

// hideOnly is for messages that may be readable next time, and those that can neither be
// moved nor changed.
func hideOnly() quarantineStep { return quarantineStep{withoutReason: true} }

// quarantineSteps returns what to try, the best first. Headers that are as large as they can be, or
// damaged, take no reason; and damaged ones cannot be copied.
func (s *store) quarantineSteps(ctx context.Context) []quarantineStep {
	archive, err := archiving(ctx, s.pool, s.queue, *s.sql())
	if err != nil {
		return []quarantineStep{{merge: true}, {}, hideOnly()}
	}
	return []quarantineStep{{archive: archive.ack, merge: true}, {archive: archive.ack}, {merge: true}, {}, hideOnly()}
}

// tryQuarantine puts messages away, together if it can. It ends with the first lock, and returns those that
// are left then.
func (s *store) tryQuarantine(ctx context.Context, db *pgxpool.Pool, messages []unread, steps []quarantineStep) (locked []unread) {
	if len(messages) == 0 || len(steps) == 0 {
		return nil
	}
	done, err := s.runQuarantineStep(ctx, db, messages, steps[0])
	switch {
	case err == nil:
		s.logQuarantined(ctx, messages, done, steps[0])
	case ctx.Err() != nil: // it ends, and they come back when their leases end
	case isLockTimeout(err):
		s.logUnread(ctx, messages[0], "waits, as its queue or the archive is locked; it will be tried again", "messages", len(messages))
		return messages
	case !isServerError(err) && !isDoubtful(err), len(messages) == 1 && len(steps) == 1:
		for _, u := range messages {
			s.logUnread(ctx, u, "could not be quarantined; retrying", "error", s.classify("archive", err))
		}
	case len(messages) > 1:
		half := len(messages) / 2
		if locked = s.tryQuarantine(ctx, db, messages[:half], steps); len(locked) > 0 {
			return slices.Concat(locked, messages[half:])
		}
		return s.tryQuarantine(ctx, db, messages[half:], steps)
	default:
		return s.tryQuarantine(ctx, db, messages, steps[1:])
	}
	return nil
}

// runQuarantineStep puts messages away, and returns those that it has found under their tokens.
func (s *store) runQuarantineStep(ctx context.Context, db *pgxpool.Pool, messages []unread, step quarantineStep) (found idSet, err error) {
	var t tokenColumns
	delays, reasons := make([]int64, len(messages)), make([]*string, len(messages))
	for i, u := range messages {
		t.add(u.row.token())
		delays[i] = u.hiddenFor().Microseconds()
		if !step.withoutReason {
			reasons[i] = u.headers(s.encoding)
		}
	}
	found = make(idSet, len(messages))
	// pgx has PostgreSQL parse a statement before it runs a batch, and that waits for locks, too: so
	// the limit is set before.
	begin := readCommittedSQL + "; " + planSQL + "; set local lock_timeout = '" + lockTimeout + "'"
	return found, pgx.BeginTxFunc(ctx, db, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(s.sql().hide, t.ids, t.numbers, t.times, delays, reasons, step.merge).Query(found.collect)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil || step.archive == "" {
			return err
		}
		var hiddenColumns tokenColumns // rows locked then may not be any more, and have no reason
		for _, u := range messages {
			if found[u.row.ID] {
				hiddenColumns.add(u.row.token())
			}
		}
		_, err := tx.Exec(ctx, step.archive, hiddenColumns.ids, hiddenColumns.numbers, hiddenColumns.times)
		return err
	})
}

func (s *store) logQuarantined(ctx context.Context, messages []unread, done idSet, step quarantineStep) {
	for _, u := range messages {
		switch {
		case !done[u.row.ID]:
			s.logUnread(ctx, u, "is locked, or was taken by another consumer; it may be tried again")
		case step.archive != "":
			s.countQuarantined(u)
			s.logUnread(ctx, u, "was moved to the archive")
		default:
			s.countQuarantined(u)
			s.logUnread(ctx, u, "is hidden", "retry_in", u.hiddenFor().String())
		}
	}
}

// countQuarantined counts a message that has been put away, unless it can perhaps be read the next time.
func (s *store) countQuarantined(u unread) {
	if !u.doubtful && s.quarantined != nil {
		s.quarantined.Add(1)
	}
}

func (s *store) logUnread(ctx context.Context, u unread, outcome string, attrs ...any) {
	text := "ezq: a message that cannot be read " + outcome
	attrs = append([]any{"topic", s.topic, "queue", s.queue, "msg_id", u.row.ID, "cause", u.cause}, attrs...)
	sparse.Log(ctx, s.logger, slog.LevelError, sparse.About{Text: text, Topic: s.topic}, attrs...)
}

// hideSQL makes messages invisible for some time, and adds a reason to their headers, or
// replaces them with it. Headers that are not an object mean nothing.
const hideSQL = `
with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[])
	as t(id, number, at, delay, headers) order by id),
l as (
	select m.msg_id, t.delay, t.headers from ` + lockedSQL + `)
update {table} m
set vt = clock_timestamp() + l.delay * interval '1 microsecond',
	headers = case
		when l.headers is null then m.headers
		when not $6::boolean then l.headers::jsonb
		when jsonb_typeof(m.headers) = 'object' then m.headers || l.headers::jsonb
		else l.headers::jsonb end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id`
