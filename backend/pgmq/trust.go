package pgmq

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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
