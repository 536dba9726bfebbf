package pgmq

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// lightWeight is what many messages may have each to be read together, if MaxMessageBytes is not less.
const lightWeight = 1 << 20

// weigh has the messages wait for the archive that are certainly too large, reads the light ones
// together, and has the others wait to be read by themselves. What it learns is not asked again; a
// message that is weighed alone is weighed once.
func (s *store) weigh(ctx context.Context, db *pgxpool.Pool, some []suspect, room int64) {
	var light, unknown, heavy []suspect
	for _, u := range some {
		if u.light {
			light = append(light, u)
		} else {
			unknown = append(unknown, u)
		}
	}
	lightest := max(s.limit/64, min(s.limit, lightWeight))
	limit := lightest
	if len(unknown) == 1 {
		limit = s.limit
	}
	weights, failed := s.weights(ctx, db, unknown, limit)
	s.aside.weighed(len(unknown), len(weights), len(failed))
	for _, u := range unknown {
		switch weight, known := weights[u.row.ID]; {
		case known && weight == 0 && limit == lightest:
			u.light = true
			light = append(light, u)
		case known && weight > int64(s.limit):
			s.aside.wait(u.tooHeavy(weight, s.limit))
		case len(unknown) == 1:
			u.weighed, u.slow = true, failed[u.row.ID]
			s.aside.wait(u)
		case known || failed[u.row.ID]:
			heavy = append(heavy, u)
		default:
			s.aside.wait(u)
		}
	}
	s.examineTogether(ctx, db, light, room)
	weights, failed = s.weights(ctx, db, heavy, s.limit)
	for _, u := range heavy {
		if weight := weights[u.row.ID]; weight > 0 {
			s.aside.wait(u.tooHeavy(weight, s.limit))
		} else {
			u.weighed, u.slow = true, failed[u.row.ID]
			s.aside.wait(u)
		}
	}
}

func (s suspect) tooHeavy(weight int64, limit int) suspect {
	s.cause = fmt.Errorf("the message has at least %d bytes, and MaxMessageBytes is %d", weight, limit)
	return s
}

func byID(some []suspect) map[int64]suspect {
	all := make(map[int64]suspect, len(some))
	for _, u := range some {
		all[u.row.ID] = u
	}
	return all
}

func rowsOf(some []suspect) []row {
	rows := make([]row, len(some))
	for i, u := range some {
		rows[i] = u.row
	}
	return rows
}

func unreadIn(some []suspect) []unread {
	all := make([]unread, len(some))
	for i, u := range some {
		all[i] = u.unread
	}
	return all
}

// togetherFor is for how long it is tried to weigh messages, or to read them, together. Both take
// less than a quarter of any lease that is not very short: see [suspect.isLate].
const togetherFor = 2 * siftFor

// examineTogether reads messages that were weighed. Those wait that there is no time for, or that
// are too many to be handed over together, and those for which it fails, to be read once more by
// themselves.
func (s *store) examineTogether(ctx context.Context, db *pgxpool.Pool, some []suspect, room int64) {
	if len(some) == 0 {
		return
	}
	from := byID(some)
	found, failed, untried := s.readTogether(ctx, db, rowsOf(some), togetherFor, room)
	s.condemn(found.tooLarge, from)
	s.distrust(ctx, db, found.forged)
	for _, r := range failed {
		alone := from[r.ID]
		alone.weighed = true
		s.aside.wait(alone)
	}
	for _, r := range untried {
		s.aside.wait(from[r.ID])
	}
	for _, token := range found.surplus {
		s.aside.wait(from[token.ID])
	}
	s.handOver(ctx, db, found.leases, from, some[0].lease)
}

// weights returns how large messages are at least, as far as it is known: 0 up to limit; and those
// that cannot be weighed.
func (s *store) weights(ctx context.Context, db *pgxpool.Pool, some []suspect, limit int) (weights map[int64]int64, failed ids) {
	weights, failed = map[int64]int64{}, ids{}
	alone, _ := bisect(rowsOf(some), togetherFor, func(part []row, patience time.Duration) error {
		batch := newPatientTransaction(patience)
		batch.Queue(s.sql().weight, rowIDs(part), limit).Query(func(rows pgx.Rows) error {
			var id, weight int64
			_, err := pgx.ForEachRow(rows, []any{&id, &weight}, func() error {
				weights[id] = weight
				return nil
			})
			return err
		})
		return batch.run(ctx, db)
	})
	for _, r := range alone {
		failed[r.ID] = true
	}
	return weights, failed
}

// examine reads one message. If it can be read, it is handed over with the next claim. One that
// takes long to read has others go first, and has more time each time that it comes back.
func (s *store) examine(ctx context.Context, db *pgxpool.Pool, u suspect) {
	patience := siftFor / 5
	if u.slow {
		patience = min(readTimeout*time.Duration(max(u.row.Number, 1)), max(u.lease/2, readTimeout))
		if time.Until(u.until) < 3*u.lease/4 {
			still := s.renewed(ctx, db, []suspect{u})
			if len(still) == 0 {
				return
			}
			u = still[0]
		}
	}
	found, err := s.read(ctx, db, []row{u.row}, patience)
	switch {
	case !u.slow && isCode(err, "57014"):
		u.slow = true
		s.aside.wait(u)
	case isCode(err, "57014"):
		s.aside.remember(u)
		u.cause, u.doubtful = fmt.Errorf("PostgreSQL takes longer than %v to write it out", patience), true
		s.putOff(ctx, db, []unread{u.unread})
	case isDoubtful(err):
		u.cause, u.doubtful = withoutSecrets(err), true
		s.putOff(ctx, db, []unread{u.unread})
	case isUnreadable(err):
		u.cause = withoutSecrets(err)
		s.aside.wait(u)
	case err != nil: // not the message's fault: it is tried again, until its lease is about to end
		u.failed = true
		s.aside.wait(u)
		await(ctx, nil, unreachableFor)
	default:
		from := byID([]suspect{u})
		s.condemn(found.tooLarge, from)
		s.distrust(ctx, db, found.forged)
		s.handOver(ctx, db, found.leases, from, u.lease)
	}
}

// condemn has messages wait for the archive.
func (s *store) condemn(certain []unread, from map[int64]suspect) {
	for _, u := range certain {
		known := from[u.row.ID]
		known.cause = u.cause
		s.aside.wait(known)
	}
}

// unreachableFor is how long a server is left alone that could not be reached.
const unreachableFor = siftFor / 5

// handOver renews the leases of messages that could be read, for the next claim to take them. If it
// cannot, they wait once more.
func (s *store) handOver(ctx context.Context, db *pgxpool.Pool, leases []subscription.Lease, from map[int64]suspect, lease time.Duration) {
	if len(leases) == 0 {
		return // another consumer has taken it
	}
	all := make([]subscription.Token, len(leases))
	for i, l := range leases {
		all[i] = l.Token
	}
	if _, err := s.extend(ctx, db, all, lease); err != nil {
		for _, l := range leases {
			s.aside.wait(from[l.ID])
		}
		await(ctx, nil, unreachableFor)
		return
	}
	ready := make([]legible, len(leases))
	for i, l := range leases {
		ready[i] = legible{Lease: l, until: time.Now().Add(lease / 4)}
	}
	s.aside.put(ready, false)
	s.hints.give(s.queue)
}

// giveBack is for messages that no claim has taken.
func (s *store) giveBack(ctx context.Context, db *pgxpool.Pool, messages []legible) {
	if len(messages) == 0 {
		return
	}
	back := make([]subscription.Settlement, len(messages))
	for i, m := range messages {
		back[i] = subscription.Settlement{Token: m.Token, Action: subscription.Nack, Bare: true}
		back[i].Disposition.Uncounted, back[i].Disposition.Delay = true, time.Second
	}
	batch := newTransaction()
	s.settle(batch, back)
	_ = batch.run(ctx, db) // or they come back when their leases end
}
