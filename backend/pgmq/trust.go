package pgmq

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// A role that may publish may write any headers, also those reserved for ezq. Reserved
// headers count only if a consumer can have written them: if the message was leased before,
// which PGMQ notes in columns that a publisher need not have a right to. Of a message that
// was not, the lease removes them, so that they do not count later either.
//
// Redrive and Replay keep the ids of messages, invented ones too: they mark each message as
// if it had been leased.
//
// Before PGMQ 1.10 there is nothing to tell it by, and everything counts.

// A lease writes over what tells, and can only return what it has written. So the time at which
// it ends has whole milliseconds, or one microsecond more if it is the first lease of the message.
const (
	endSQL      = "clock_timestamp() + $2::bigint * interval '1 microsecond'"
	markedEnd   = "date_trunc('milliseconds', " + endSQL + ") + case when " + knownBefore + " then interval '0' else interval '1 microsecond' end"
	knownBefore = "(m.read_ct > 0 or m.last_read_at is not null)"
	knownByEnd  = "m.vt = date_trunc('milliseconds', m.vt)"
)

// Headers that another transaction committed meanwhile stay.
const removeForgedSQL = `
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::boolean[]) as t(id, number, at, named) order by id),
l as (
	select m.msg_id, t.named from ` + lockedSQL + `)
update {table} m
set headers = m.headers - array['` + failuresKey + `', '` + doneKey + `', '` + unknownKey + `'] - case when l.named then array['` + uuidKey + `'] else '{}' end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id`

// leasedMarkColumns returns the columns, besides those of a publisher, that mark a message of queue as
// one that was leased, and their values.
func leasedMarkColumns(ctx context.Context, db rowQuerier, queue string) (columns, values string, err error) {
	const sql = "select exists (select from pg_attribute where attrelid = to_regclass($1) and attname = 'last_read_at' and not attisdropped)"
	var can bool
	err = db.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, tableName(queue)).Scan(&can)
	if err != nil || !can {
		return "", "", err
	}
	return ", last_read_at", ", clock_timestamp()", nil
}

// forgery is a message that says what only ezq may.
type forgery struct {
	token    subscription.Token
	progress bool // what was done with it
	named    bool // an id that another message has by itself
}

func (f forgery) any() bool { return f.progress || f.named }

// defaultID is the id of a message that has none.
func defaultID(queue string, id int64) string { return queue + "/" + strconv.FormatInt(id, 10) }

// isDefaultID reports whether uuid is, or can become, the id of a message of queue that has none.
func isDefaultID(uuid, queue string) bool {
	number, ok := strings.CutPrefix(uuid, queue+"/")
	number = strings.TrimPrefix(number, "-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// dropForged forgets what only ezq may say of a message in queue.
func (h *headers) dropForged(queue string) (f forgery) {
	f.progress = h.failures > 0 || len(h.done) > 0 || !h.unknown.IsZero()
	f.named = isDefaultID(h.uuid, queue)
	h.failures, h.done, h.unknown = 0, nil, time.Time{}
	if f.named {
		h.uuid = ""
	}
	return f
}

// removeForged removes what the messages of a claim only pretend, before they are handed over.
func (s *store) removeForged(ctx context.Context, db batchSender, forged []forgery) {
	if len(forged) == 0 {
		return
	}
	var t tokenColumns
	named := make([]bool, len(forged))
	for i, f := range forged {
		t.add(f.token)
		named[i] = f.named
	}
	batch := newTransaction()
	batch.Queue(s.sql().removeForged, t.ids, t.numbers, t.times, named)
	if err := batch.run(ctx, db); err != nil {
		s.logger.Warn("ezq: what messages pretend to be could not be removed from their headers, and counts when they are delivered again",
			"queue", s.queue, "messages", len(forged), "error", s.classify("fetch", err))
	}
}
