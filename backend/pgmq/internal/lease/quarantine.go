package lease

import (
	"context"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

// A role that may insert can store a message that cannot be read: 300 stored
// bytes of JSON numbers can be a hundred megabytes when PostgreSQL writes them
// out, or more than it can write. Because the oldest messages are claimed first,
// one such message would keep every consumer from all others. It is examined apart,
// see [claimer.screen], and ends up in the archive.

// quarantine puts messages of a queue away.
type quarantine struct{ queue *queue }

// put moves messages to the archive of their queue, which does not read
// them, and notes why. If the archive cannot be used, they stay, invisible. It returns those for
// which it would have to wait, since a table is locked: that is no message's fault.
func (q quarantine) put(ctx context.Context, db *pgxpool.Pool, unreadable []unread) (locked []unread) {
	if len(unreadable) == 0 {
		return nil
	}
	return q.try(ctx, db, unreadable, q.steps(ctx))
}

// hide has messages stay, invisible, that can perhaps be read the next time.
func (q quarantine) hide(ctx context.Context, db *pgxpool.Pool, doubtful []unread) {
	q.try(ctx, db, doubtful, []quarantineStep{hideOnly()})
}

// quarantineStep is one way to quarantine messages.
type quarantineStep struct {
	archive       string // the statement that moves them; "" if they stay
	merge         bool   // the reason is added to their headers, or else replaces them
	withoutReason bool   // they get no reason
	denied        error  // why they are not moved, if that is known before; nil
}

// hideOnly is for messages that may be readable next time, and those that can neither be
// moved nor changed.
func hideOnly() quarantineStep { return quarantineStep{withoutReason: true} }

// steps returns what to try, the best first. Headers that are as large as they can be, or
// damaged, take no reason; and damaged ones cannot be copied.
func (q quarantine) steps(ctx context.Context) []quarantineStep {
	columns, err := catalog.ArchiveColumns(ctx, q.queue.pool, q.queue.name)
	if err != nil {
		return []quarantineStep{{merge: true, denied: err}, {denied: err}, {withoutReason: true, denied: err}}
	}
	archive := q.queue.sql().Archiving(q.queue.name, columns).Quarantine
	return []quarantineStep{{archive: archive, merge: true}, {archive: archive}, {merge: true}, {}, hideOnly()}
}

// try quarantines messages, together if it can. It ends with the first lock, and returns those that
// are left then.
func (q quarantine) try(ctx context.Context, db *pgxpool.Pool, messages []unread, steps []quarantineStep) (locked []unread) {
	if len(messages) == 0 || len(steps) == 0 {
		return nil
	}
	done, err := q.run(ctx, db, messages, steps[0])
	switch {
	case err == nil:
		q.logDone(ctx, messages, done, steps[0])
	case ctx.Err() != nil: // it ends, and they come back when their leases end
	case fault.IsLockTimeout(err):
		q.logUnread(ctx, messages[0], "waits, as its queue or the archive is locked; it will be tried again", "messages", len(messages))
		return messages
	case !fault.IsServerError(err) && !fault.IsDoubtful(err), len(messages) == 1 && len(steps) == 1:
		for _, u := range messages {
			q.logUnread(ctx, u, "could not be quarantined; retrying", "error", q.queue.classify("archive", err))
		}
	case len(messages) > 1:
		half := len(messages) / 2
		if locked = q.try(ctx, db, messages[:half], steps); len(locked) > 0 {
			return slices.Concat(locked, messages[half:])
		}
		return q.try(ctx, db, messages[half:], steps)
	case fault.IsStatementTimeout(err):
		return q.try(ctx, db, messages, otherSteps(steps))
	default:
		return q.try(ctx, db, messages, steps[1:])
	}
	return nil
}

// otherSteps returns what to try when the first of steps takes too long: what does the same, more or less, would
// take as long.
func otherSteps(steps []quarantineStep) []quarantineStep {
	moves := steps[0].archive != ""
	for i, step := range steps {
		if moves && step.archive == "" {
			return steps[i:]
		}
	}
	return steps[len(steps)-1:]
}

// run quarantines messages, and returns those that it has found under their tokens.
func (q quarantine) run(ctx context.Context, db *pgxpool.Pool, messages []unread, step quarantineStep) (found idSet, err error) {
	var t tokenColumns
	delays, reasons := make([]int64, len(messages)), make([]*string, len(messages))
	for i, u := range messages {
		t.add(u.row.token())
		delays[i] = u.hiddenFor().Microseconds()
		if !step.withoutReason {
			reasons[i] = u.headers(q.queue.encoding)
		}
	}
	found = make(idSet, len(messages))
	// pgx has PostgreSQL parse a statement before it runs a batch, and that waits for locks, too: so
	// the limit is set before.
	begin := transact.ReadCommittedSQL + "; " + transact.PlanSQL + "; set local lock_timeout = '" + lockTimeout + "'; select " +
		transact.StatementTimeoutSQL(OperationTimeout) // the messages of other queues wait
	return found, pgx.BeginTxFunc(ctx, db, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(q.queue.sql().Hide, t.ids, t.numbers, t.times, delays, reasons, step.merge).Query(found.collect)
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

func (q quarantine) logDone(ctx context.Context, messages []unread, done idSet, step quarantineStep) {
	for _, u := range messages {
		switch {
		case !done[u.row.ID]:
			q.logUnread(ctx, u, "is locked, or was taken by another consumer; it may be tried again")
		case step.archive != "":
			q.count(u)
			q.logUnread(ctx, u, "was moved to the archive")
		case step.denied != nil:
			q.count(u)
			q.logUnread(ctx, u, "is hidden, as the archive cannot be used", "retry_in", u.hiddenFor().String(), "error", q.queue.classify("archive", step.denied))
		default:
			q.count(u)
			q.logUnread(ctx, u, "is hidden", "retry_in", u.hiddenFor().String())
		}
	}
}

// count counts a message that has been quarantined, unless it can perhaps be read the next time.
func (q quarantine) count(u unread) {
	if !u.doubtful && q.queue.quarantined != nil {
		q.queue.quarantined.Add(1)
	}
}

func (q quarantine) logUnread(ctx context.Context, u unread, outcome string, attrs ...any) {
	text := "ezq: a message that cannot be read " + outcome
	attrs = append([]any{"topic", q.queue.topic, "queue", q.queue.name, "msg_id", u.row.ID, "cause", u.cause}, attrs...)
	sparse.Log(ctx, q.queue.logger, slog.LevelError, sparse.About{Text: text, Topic: q.queue.topic}, attrs...)
}
