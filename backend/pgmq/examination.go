package pgmq

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// smallSize is what many messages may have each to be read together, if MaxMessageBytes is not less.
const smallSize = 1 << 20

// triage has the messages wait for the archive that are certainly too large, reads the light ones
// together, and has the others wait to be read by themselves. It asks for nothing twice; a
// message that is sized alone is sized once.
func (s *store) triage(ctx context.Context, db *pgxpool.Pool, some []suspect, capacity int64) {
	var small, unknown, large []suspect
	for _, u := range some {
		if u.small {
			small = append(small, u)
		} else {
			unknown = append(unknown, u)
		}
	}
	smallLimit := max(s.maxMessageBytes/64, min(s.maxMessageBytes, smallSize))
	limit := smallLimit
	if len(unknown) == 1 {
		limit = s.maxMessageBytes
	}
	sizes, failed := s.minimumSizes(ctx, db, unknown, limit)
	s.suspects.recordSizes(len(unknown), len(sizes), len(failed))
	for _, u := range unknown {
		switch size, known := sizes[u.row.ID]; {
		case known && size == 0 && limit == smallLimit:
			u.small = true
			small = append(small, u)
		case known && size > int64(s.maxMessageBytes):
			s.suspects.requeue(u.tooLarge(size, s.maxMessageBytes))
		case len(unknown) == 1:
			u.sized, u.slow = true, failed[u.row.ID]
			s.suspects.requeue(u)
		case known || failed[u.row.ID]:
			large = append(large, u)
		default:
			s.suspects.requeue(u)
		}
	}
	s.examineTogether(ctx, db, small, capacity)
	sizes, failed = s.minimumSizes(ctx, db, large, s.maxMessageBytes)
	for _, u := range large {
		if size := sizes[u.row.ID]; size > 0 {
			s.suspects.requeue(u.tooLarge(size, s.maxMessageBytes))
		} else {
			u.sized, u.slow = true, failed[u.row.ID]
			s.suspects.requeue(u)
		}
	}
}

func (s suspect) tooLarge(size int64, limit int) suspect {
	s.cause = fmt.Errorf("the message has at least %d bytes, and MaxMessageBytes is %d", size, limit)
	return s
}

func suspectsByID(some []suspect) map[int64]suspect {
	all := make(map[int64]suspect, len(some))
	for _, u := range some {
		all[u.row.ID] = u
	}
	return all
}

func suspectRows(some []suspect) []row {
	rows := make([]row, len(some))
	for i, u := range some {
		rows[i] = u.row
	}
	return rows
}

func unreadSuspects(some []suspect) []unread {
	all := make([]unread, len(some))
	for i, u := range some {
		all[i] = u.unread
	}
	return all
}

// examineTimeout is for how long it is tried to size messages, or to read them, together. Both take
// less than a quarter of any lease that is not very short: see [suspect.isLate].
const examineTimeout = 2 * screenTimeout

// examineTogether reads messages that were sized. Those wait that there is no time for, or that
// are too many to be handed over together, and those for which it fails, to be read once more by
// themselves.
func (s *store) examineTogether(ctx context.Context, db *pgxpool.Pool, some []suspect, capacity int64) {
	if len(some) == 0 {
		return
	}
	from := suspectsByID(some)
	result, failed, untried := s.readTogether(ctx, db, suspectRows(some), examineTimeout, capacity)
	s.archiveLater(result.tooLarge, from)
	s.removeForged(ctx, db, result.forged)
	for _, r := range failed {
		alone := from[r.ID]
		alone.sized = true
		s.suspects.requeue(alone)
	}
	for _, r := range untried {
		s.suspects.requeue(from[r.ID])
	}
	for _, token := range result.surplus {
		s.suspects.requeue(from[token.ID])
	}
	s.makeReady(ctx, db, result.leases, from, some[0].lease)
}

// minimumSizes returns how large messages are at least, as far as it is known: 0 up to limit; and those
// that cannot be sized.
func (s *store) minimumSizes(ctx context.Context, db *pgxpool.Pool, some []suspect, limit int) (sizes map[int64]int64, failed idSet) {
	sizes, failed = map[int64]int64{}, idSet{}
	alone, _ := bisect(suspectRows(some), examineTimeout, func(part []row, timeout time.Duration) error {
		batch := newTransactionWithTimeout(timeout)
		batch.Queue(s.sql().minimumSize, rowIDs(part), limit).Query(func(rows pgx.Rows) error {
			var id, size int64
			_, err := pgx.ForEachRow(rows, []any{&id, &size}, func() error {
				sizes[id] = size
				return nil
			})
			return err
		})
		return batch.run(ctx, db)
	})
	for _, r := range alone {
		failed[r.ID] = true
	}
	return sizes, failed
}

// examine reads one message. If it can be read, it is handed over with the next claim. One that
// takes long to read has others go first, and has more time each time that it comes back.
func (s *store) examine(ctx context.Context, db *pgxpool.Pool, u suspect) {
	timeout := screenTimeout / 5
	if u.slow {
		timeout = min(readTimeout*time.Duration(max(u.row.Number, 1)), max(u.lease/2, readTimeout))
		if time.Until(u.until) < 3*u.lease/4 {
			still := s.renewed(ctx, db, []suspect{u})
			if len(still) == 0 {
				return
			}
			u = still[0]
		}
	}
	result, err := s.readLeased(ctx, db, []row{u.row}, timeout)
	switch {
	case !u.slow && isCode(err, "57014"):
		u.slow = true
		s.suspects.requeue(u)
	case isCode(err, "57014"):
		s.suspects.deferSuspects(u)
		u.cause, u.doubtful = fmt.Errorf("PostgreSQL takes longer than %v to write it out", timeout), true
		s.hide(ctx, db, []unread{u.unread})
	case isDoubtful(err):
		u.cause, u.doubtful = withoutSecrets(err), true
		s.hide(ctx, db, []unread{u.unread})
	case isUnreadable(err):
		u.cause = withoutSecrets(err)
		s.suspects.requeue(u)
	case err != nil: // not the message's fault: it is tried again, until its lease is about to end
		u.failed = true
		s.suspects.requeue(u)
		await(ctx, nil, unreachablePause)
	default:
		from := suspectsByID([]suspect{u})
		s.archiveLater(result.tooLarge, from)
		s.removeForged(ctx, db, result.forged)
		s.makeReady(ctx, db, result.leases, from, u.lease)
	}
}

// archiveLater has messages wait for the archive.
func (s *store) archiveLater(unreadable []unread, from map[int64]suspect) {
	for _, u := range unreadable {
		known := from[u.row.ID]
		known.cause = u.cause
		s.suspects.requeue(known)
	}
}

// unreachablePause is how long a server is left alone that could not be reached.
const unreachablePause = screenTimeout / 5

// makeReady renews the leases of messages that could be read, for the next claim to take them. If it
// cannot, they wait once more.
func (s *store) makeReady(ctx context.Context, db *pgxpool.Pool, leases []subscription.Lease, from map[int64]suspect, lease time.Duration) {
	if len(leases) == 0 {
		return // another consumer has taken it
	}
	all := make([]subscription.Token, len(leases))
	for i, l := range leases {
		all[i] = l.Token
	}
	if _, err := s.extend(ctx, db, all, lease); err != nil {
		for _, l := range leases {
			s.suspects.requeue(from[l.ID])
		}
		await(ctx, nil, unreachablePause)
		return
	}
	ready := make([]examined, len(leases))
	for i, l := range leases {
		ready[i] = examined{Lease: l, until: time.Now().Add(lease / 4)}
	}
	s.suspects.addReady(ready, false)
	s.wakeups.signal(s.queue)
}

// releaseDelayed is for messages that no claim has taken.
func (s *store) releaseDelayed(ctx context.Context, db *pgxpool.Pool, messages []examined) {
	if len(messages) == 0 {
		return
	}
	released := make([]subscription.Settlement, len(messages))
	for i, m := range messages {
		released[i] = subscription.Settlement{Token: m.Token, Action: subscription.Nack, Bare: true}
		released[i].Disposition.Fallback.Uncounted, released[i].Disposition.Fallback.Delay = true, time.Second
	}
	batch := newTransaction()
	s.settle(batch, released)
	_ = batch.run(ctx, db) // or they come back when their leases end
}
