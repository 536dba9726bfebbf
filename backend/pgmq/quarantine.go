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

// Anybody who may insert can store a message that cannot be read: 300 stored
// bytes of JSON numbers can be a hundred megabytes when PostgreSQL writes them
// out, or more than it can write. Because the oldest messages are claimed first,
// one such message would keep every consumer from all others. It is put aside,
// see [store.sift], and ends up in the archive.

// unread is a leased message that cannot be read, or perhaps cannot.
type unread struct {
	row      row   // without what it says
	cause    error // nil if it is not certain
	doubtful bool  // PostgreSQL itself may be in trouble, and not the message
}

const (
	// readTimeout is how long PostgreSQL may take to read one message.
	readTimeout = 3 * time.Second

	// asideFor is how long a message is invisible that cannot be archived, and how
	// long at most one that perhaps can be read the next time.
	asideFor = time.Hour
)

// aside returns how long the message stays invisible: one that PostgreSQL had no
// time or no memory to read comes back after 2 seconds, then 4, and so on, so that
// a server in trouble delays healthy messages little, and a message that is to
// blame soon takes hardly any of its time.
func (u unread) aside() time.Duration {
	if !u.doubtful {
		return asideFor
	}
	return min(time.Second<<min(u.row.Number, 12), asideFor)
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
func (s *store) quarantine(ctx context.Context, db *pgxpool.Pool, certain []unread) (locked []unread) {
	if len(certain) == 0 {
		return nil
	}
	return s.tryAway(ctx, db, certain, s.ways(ctx))
}

// putOff has messages stay, invisible, that can perhaps be read the next time.
func (s *store) putOff(ctx context.Context, db *pgxpool.Pool, doubtful []unread) {
	s.tryAway(ctx, db, doubtful, []way{hidden()})
}

// way is one way to put messages away.
type way struct {
	archive string // the statement that moves them; "" if they stay
	merge   bool   // the reason is added to their headers, or else replaces them
	silent  bool   // they get no reason
}

// hidden is the way for what can be read, perhaps, the next time, and for what can neither
// be moved nor changed.
func hidden() way { return way{silent: true} }

// ways returns what to try, the best first. Headers that are as large as they can be, or
// damaged, take no reason; and what is damaged cannot be copied.
func (s *store) ways(ctx context.Context) []way {
	archive, err := archiving(ctx, s.pool, s.queue, *s.sql())
	if err != nil {
		return []way{{merge: true}, {}, hidden()}
	}
	return []way{{archive: archive.ack, merge: true}, {archive: archive.ack}, {merge: true}, {}, hidden()}
}

// tryAway puts messages away, together if it can. It ends with the first lock, and returns those that
// are left then.
func (s *store) tryAway(ctx context.Context, db *pgxpool.Pool, messages []unread, ways []way) (locked []unread) {
	if len(messages) == 0 || len(ways) == 0 {
		return nil
	}
	done, err := s.putAway(ctx, db, messages, ways[0])
	switch {
	case err == nil:
		s.logAway(ctx, messages, done, ways[0])
	case ctx.Err() != nil: // it ends, and they come back when their leases end
	case isLockTimeout(err):
		s.logUnread(ctx, messages[0], "waits, as its queue or the archive is locked; it will be tried again", "messages", len(messages))
		return messages
	case !isAnswer(err) && !isDoubtful(err), len(messages) == 1 && len(ways) == 1:
		for _, u := range messages {
			s.logUnread(ctx, u, "could not be put aside; it will be tried again", "error", s.classify("archive", err))
		}
	case len(messages) > 1:
		half := len(messages) / 2
		if locked = s.tryAway(ctx, db, messages[:half], ways); len(locked) > 0 {
			return slices.Concat(locked, messages[half:])
		}
		return s.tryAway(ctx, db, messages[half:], ways)
	default:
		return s.tryAway(ctx, db, messages, ways[1:])
	}
	return nil
}

// putAway puts messages away, and returns those that it has found under their tokens.
func (s *store) putAway(ctx context.Context, db *pgxpool.Pool, messages []unread, way way) (found ids, err error) {
	var t tokens
	delays, reasons := make([]int64, len(messages)), make([]*string, len(messages))
	for i, u := range messages {
		t.add(u.row.token())
		delays[i] = u.aside().Microseconds()
		if !way.silent {
			reasons[i] = u.headers(s.encoding)
		}
	}
	found = make(ids, len(messages))
	// pgx has PostgreSQL parse a statement before it runs a batch, and that waits for locks, too: so
	// the limit is set before.
	begin := readCommittedSQL + "; " + planSQL + "; set local lock_timeout = '" + letterWait + "'"
	return found, pgx.BeginTxFunc(ctx, db, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(s.sql().hide, t.ids, t.numbers, t.times, delays, reasons, way.merge).Query(found.collect)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil || way.archive == "" {
			return err
		}
		var marked tokens // what was locked then may not be any more, and has no reason
		for _, u := range messages {
			if found[u.row.ID] {
				marked.add(u.row.token())
			}
		}
		_, err := tx.Exec(ctx, way.archive, marked.ids, marked.numbers, marked.times)
		return err
	})
}

func (s *store) logAway(ctx context.Context, messages []unread, done ids, way way) {
	for _, u := range messages {
		switch {
		case !done[u.row.ID]:
			s.logUnread(ctx, u, "is locked, or was taken by another consumer; it may be tried again")
		case way.archive != "":
			s.count(u)
			s.logUnread(ctx, u, "was moved to the archive")
		default:
			s.count(u)
			s.logUnread(ctx, u, "is put aside", "retry_in", u.aside().String())
		}
	}
}

// count counts a message that has been put away, unless it can perhaps be read the next time.
func (s *store) count(u unread) {
	if !u.doubtful && s.quarantined != nil {
		s.quarantined.Add(1)
	}
}

func (s *store) logUnread(ctx context.Context, u unread, fate string, attrs ...any) {
	text := "ezq: a message that cannot be read " + fate
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
