package lease

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/internal/sparse"
)

// examination examines the suspicious messages of a queue beside its claims.
type examination struct {
	queue      *queue
	suspects   *suspects
	reader     reader
	writer     writer
	quarantine quarantine
	examiner   *Examiner
}

func newExamination(of *queue, shared *Examiner) *examination {
	e := &examination{queue: of, suspects: newSuspects(), reader: reader{of}, writer: writer{of}, quarantine: quarantine{of}, examiner: shared}
	e.suspects.start = func() { e.examiner.start(e.run) }
	return e
}

// add has messages looked at, whose leases have begun less than a moment ago.
func (e *examination) add(ctx context.Context, messages []unread, lease time.Duration) {
	e.quarantine.hide(ctx, e.queue.pool, outOfTime(e.suspects.add(messages, lease)))
}

// run examines all suspects. When it ends before that, it releases what is left.
func (e *examination) run(ctx context.Context) {
	own, err := e.examiner.acquirePool(e.queue.pool)
	if err != nil {
		e.queue.logger.Error("ezq: suspicious messages cannot be examined; they come back when their leases end",
			"topic", e.queue.topic, "queue", e.queue.name, "error", err)
		e.suspects.takeWaiting()
		return
	}
	defer e.examiner.releasePool()
	for ctx.Err() == nil {
		capacity, wait := e.suspects.capacity(e.queue.maxBytes)
		if wait > 0 {
			await(ctx, e.suspects.changed, wait)
		}
		more := true
		e.examiner.runExclusive(ctx, func() { more = e.step(ctx, own, capacity, wait == 0) })
		if !more {
			return
		}
	}
	rest, stop := context.WithTimeout(context.WithoutCancel(ctx), OperationTimeout)
	defer stop()
	var unexamined []subscription.Token
	for _, r := range e.suspects.takeReady(math.MaxInt) {
		unexamined = append(unexamined, r.Token)
	}
	for _, u := range e.suspects.takeWaiting() {
		unexamined = append(unexamined, u.row.token())
	}
	e.writer.release(rest, unexamined)
}

// step releases what no claim has taken and what there is no time for, and looks at some of
// the others, if it is to. It reports whether there may be more.
func (e *examination) step(ctx context.Context, own *pgxpool.Pool, capacity int64, examine bool) bool {
	e.releaseDelayed(ctx, own, e.suspects.takeExpired())
	e.quarantine.hide(ctx, own, outOfTime(e.suspects.takeLate()))
	e.extend(ctx, own, e.suspects.takeOverdue())
	if !examine {
		return true
	}
	some, more := e.suspects.nextBatch()
	switch {
	case len(some) == 0:
	case !some[0].isUncertain():
		e.archive(ctx, own, some)
	case some[0].sized:
		e.examine(ctx, own, some[0])
	default:
		e.triage(ctx, own, some, capacity)
	}
	return more
}

// archive moves messages to the archive. They wait while it is locked.
func (e *examination) archive(ctx context.Context, db *pgxpool.Pool, some []suspect) {
	locked := e.quarantine.put(ctx, db, unreadSuspects(some))
	if len(locked) == 0 {
		return
	}
	from := suspectsByID(some)
	for _, u := range locked {
		e.suspects.requeue(from[u.row.ID])
	}
	e.suspects.pauseArchiving(some[0].lease)
}

// extend extends the leases of messages that wait. It forgets those that other consumers have taken.
func (e *examination) extend(ctx context.Context, db *pgxpool.Pool, some []suspect) {
	e.suspects.requeue(e.extended(ctx, db, some)...)
}

// extended extends leases, and returns what was not taken away. What cannot be extended by itself comes back when
// its lease ends.
func (e *examination) extended(ctx context.Context, db *pgxpool.Pool, some []suspect) (still []suspect) {
	if len(some) == 0 {
		return nil
	}
	from, until := suspectsByID(some), time.Now().Add(some[0].lease)
	result := e.writer.extendEach(ctx, db, suspectRows(some), some[0].lease, func([]Row) {})
	for _, u := range some {
		if result.extended[u.row.ID] {
			u.until = until
			still = append(still, u)
		}
	}
	for _, r := range result.untried {
		if u := from[r.ID]; time.Now().Before(u.until) {
			still = append(still, u)
		}
	}
	e.logRefusedExtension(ctx, result, "comes back when its lease ends")
	return still
}

// smallSize is what many messages may have each to be read together, if MaxMessageBytes is not less.
const smallSize = 1 << 20

// triage has the messages wait for the archive that are certainly too large, reads the light ones
// together, and has the others wait to be read by themselves. It asks for nothing twice; a
// message that is sized alone is sized once.
func (e *examination) triage(ctx context.Context, db *pgxpool.Pool, some []suspect, capacity int64) {
	var small, unknown, large []suspect
	for _, u := range some {
		if u.small {
			small = append(small, u)
		} else {
			unknown = append(unknown, u)
		}
	}
	smallLimit := max(e.queue.maxMessageBytes/64, min(e.queue.maxMessageBytes, smallSize))
	limit := smallLimit
	if len(unknown) == 1 {
		limit = e.queue.maxMessageBytes
	}
	sizes, failed := e.reader.minimumSizes(ctx, db, unknown, limit)
	e.suspects.recordSizes(len(unknown), len(sizes), len(failed))
	for _, u := range unknown {
		switch size, known := sizes[u.row.ID]; {
		case known && size == 0 && limit == smallLimit:
			u.small = true
			small = append(small, u)
		case known && size > int64(e.queue.maxMessageBytes):
			e.suspects.requeue(u.tooLarge(size, e.queue.maxMessageBytes))
		case len(unknown) == 1:
			u.sized, u.slow = true, failed[u.row.ID]
			e.suspects.requeue(u)
		case known || failed[u.row.ID]:
			large = append(large, u)
		default:
			e.suspects.requeue(u)
		}
	}
	e.examineTogether(ctx, db, small, capacity)
	sizes, failed = e.reader.minimumSizes(ctx, db, large, e.queue.maxMessageBytes)
	for _, u := range large {
		if size := sizes[u.row.ID]; size > 0 {
			e.suspects.requeue(u.tooLarge(size, e.queue.maxMessageBytes))
		} else {
			u.sized, u.slow = true, failed[u.row.ID]
			e.suspects.requeue(u)
		}
	}
}

// examineTimeout is for how long it is tried to size messages, or to read them, together. Both take
// less than a quarter of any lease that is not very short: see [suspect.isLate].
const examineTimeout = 2 * screenTimeout

// examineTogether reads messages that were sized. Those wait that there is no time for, or that
// are too many to be handed over together, and those for which it fails, to be read once more by
// themselves.
func (e *examination) examineTogether(ctx context.Context, db *pgxpool.Pool, some []suspect, capacity int64) {
	if len(some) == 0 {
		return
	}
	from := suspectsByID(some)
	result, failed, untried := e.reader.readTogether(ctx, db, suspectRows(some), examineTimeout, capacity)
	e.archiveLater(result.tooLarge, from)
	e.reader.removeForged(ctx, db, result.forged)
	for _, r := range failed {
		alone := from[r.ID]
		alone.sized = true
		e.suspects.requeue(alone)
	}
	for _, r := range untried {
		e.suspects.requeue(from[r.ID])
	}
	for _, token := range result.surplus {
		e.suspects.requeue(from[token.ID])
	}
	e.makeReady(ctx, db, result.leases, from, some[0].lease)
}

// examine reads one message. If it can be read, it is handed over with the next claim. One that
// takes long to read has others go first, and has more time each time that it comes back.
func (e *examination) examine(ctx context.Context, db *pgxpool.Pool, u suspect) {
	timeout := screenTimeout / 5
	if u.slow {
		timeout = min(readTimeout*time.Duration(max(u.row.Number, 1)), max(u.lease/2, readTimeout))
		if time.Until(u.until) < 3*u.lease/4 {
			still := e.extended(ctx, db, []suspect{u})
			if len(still) == 0 {
				return
			}
			u = still[0]
		}
	}
	result, err := e.reader.read(ctx, db, []Row{u.row}, timeout)
	switch {
	case !u.slow && fault.IsCode(err, "57014"):
		u.slow = true
		e.suspects.requeue(u)
	case fault.IsCode(err, "57014"):
		e.suspects.deferSuspects(u)
		e.suspects.recordBad()
		u.cause, u.doubtful = fmt.Errorf("PostgreSQL takes longer than %v to write it out", timeout), true
		e.quarantine.hide(ctx, db, []unread{u.unread})
	case fault.IsDoubtful(err):
		e.suspects.recordBad()
		u.cause, u.doubtful = fault.WithoutSecrets(err), true
		e.quarantine.hide(ctx, db, []unread{u.unread})
	case fault.IsUnreadable(err):
		u.cause = fault.WithoutSecrets(err)
		e.suspects.requeue(u)
	case err != nil: // not the message's fault: it is tried again, until its lease is about to end
		u.failed = true
		e.suspects.requeue(u)
		await(ctx, nil, unreachableWait)
	default:
		from := suspectsByID([]suspect{u})
		e.archiveLater(result.tooLarge, from)
		e.reader.removeForged(ctx, db, result.forged)
		e.makeReady(ctx, db, result.leases, from, u.lease)
	}
}

// archiveLater has messages wait for the archive.
func (e *examination) archiveLater(unreadable []unread, from map[int64]suspect) {
	for _, u := range unreadable {
		known := from[u.row.ID]
		known.cause = u.cause
		e.suspects.requeue(known)
	}
}

// unreachableWait is how long a server is left alone that could not be reached.
const unreachableWait = screenTimeout / 5

// makeReady extends the leases of messages that could be read, for the next claim to take them. If it
// cannot, they wait once more. One whose lease alone cannot be extended is handed over with what is left of that, if it is
// more than half.
func (e *examination) makeReady(ctx context.Context, db *pgxpool.Pool, leases []subscription.Lease, from map[int64]suspect, lease time.Duration) {
	if len(leases) == 0 {
		return // another consumer has taken it
	}
	byID, rows := map[int64]subscription.Lease{}, make([]Row, len(leases))
	for i, l := range leases {
		byID[l.ID], rows[i] = l, from[l.ID].row
	}
	handOver := func(part []Row) {
		ready := make([]examined, len(part))
		for i, r := range part {
			ready[i] = examined{Lease: byID[r.ID], until: time.Now().Add(lease / 4)}
		}
		e.suspects.addReady(ready, false)
		e.queue.wakeups.Signal(e.queue.name)
	}
	result := e.writer.extendEach(ctx, db, rows, lease, handOver)
	for _, r := range result.failed {
		if time.Until(from[r.ID].until) > lease/2 {
			handOver([]Row{r})
		}
	}
	e.logRefusedExtension(ctx, result, "has only what is left of it")
	for _, r := range result.untried {
		e.suspects.requeue(from[r.ID])
	}
	if result.unreachable != nil {
		await(ctx, nil, unreachableWait)
	}
}

func (e *examination) logRefusedExtension(ctx context.Context, result extension, outcome string) {
	if len(result.failed) == 0 {
		return
	}
	about := sparse.About{Text: "ezq: a message that is examined cannot have its lease extended, and " + outcome, Topic: e.queue.topic}
	sparse.Log(ctx, e.queue.logger, slog.LevelError, about, "topic", e.queue.topic, "queue", e.queue.name,
		"msg_id", result.failed[0].ID, "messages", len(result.failed), "error", e.queue.classify("extend", result.refusal))
}

// releaseDelayed is for messages that no claim has taken.
func (e *examination) releaseDelayed(ctx context.Context, db *pgxpool.Pool, messages []examined) {
	released := make([]subscription.Settlement, len(messages))
	for i, m := range messages {
		released[i] = subscription.Settlement{Token: m.Token, Action: subscription.Nack, Bare: true}
		released[i].Disposition.Fallback.Uncounted, released[i].Disposition.Fallback.Delay = true, time.Second
	}
	_, _ = e.writer.storeReleases(ctx, db, released) // or they come back when their leases end
}

// readTimeout is how long PostgreSQL may take to read one message.
const readTimeout = 3 * time.Second

// await waits until something has changed, but no longer than that.
func await(ctx context.Context, changed <-chan struct{}, maxWait time.Duration) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}
