package pgmq

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/internal/subscription"
)

// aside is the messages of one queue that are put aside: leased, and to be looked at beside
// the claims.
type aside struct {
	all   *asides
	limit int

	mu      sync.Mutex
	waiting []suspect
	working bool
	ready   []legible
	bytes   int64         // of what is ready
	changed chan struct{} // holds a token when there is more to look at, or less that is ready
}

// maxAside is how many messages of a queue may be put aside at a time. There is no time to read
// others.
const maxAside = 10_000

func newAside(all *asides) *aside {
	return &aside{all: all, limit: maxAside, changed: make(chan struct{}, 1)}
}

// suspect is a message that is put aside.
type suspect struct {
	unread
	weighed bool // it is to be read by itself
	slow    bool // that took long once
	lease   time.Duration
	until   time.Time // when its lease ends, or earlier
}

// legible is a message that could be read, and waits for the next claim. If that does not come, the
// consumer has no room.
type legible struct {
	subscription.Lease
	until time.Time // it is given back then
}

// isLate reports whether there is no time to read the message before its lease ends.
func (s suspect) isLate() bool { return time.Until(s.until) < s.lease/4 }

// putAside has messages looked at, whose leases have begun less than a moment ago.
func (s *store) putAside(ctx context.Context, messages []unread, lease time.Duration) {
	s.quarantine(ctx, s.pool, inTime(s.keepAside(messages, lease)))
}

// keepAside returns the messages that there is no room for.
func (s *store) keepAside(messages []unread, lease time.Duration) (surplus []unread) {
	a := s.aside
	a.mu.Lock()
	defer a.mu.Unlock()
	room := min(len(messages), max(a.limit-len(a.waiting), 0))
	for _, u := range messages[:room] {
		a.waiting = append(a.waiting, suspect{unread: u, lease: lease, until: time.Now().Add(lease)})
	}
	if !a.working && len(a.waiting) > 0 {
		a.working = true
		a.all.run(s.lookAside)
	}
	a.change()
	return messages[room:]
}

// inTime returns messages as those that there is no time to read.
func inTime(messages []unread) []unread {
	late := slices.Clone(messages)
	for i := range late {
		late[i].cause, late[i].doubtful = errInTime, true
	}
	return late
}

func (a *aside) hasReady() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ready) > 0
}

// take returns up to n of what can be handed over.
func (a *aside) take(n int) []legible {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = min(n, len(a.ready))
	taken := slices.Clone(a.ready[:n])
	a.ready = slices.Delete(a.ready, 0, n)
	for _, r := range taken {
		a.bytes -= int64(r.Size)
	}
	if n > 0 {
		a.change()
	}
	return taken
}

// stale removes what no claim has taken in time.
func (a *aside) stale() (stale []legible) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = slices.DeleteFunc(a.ready, func(r legible) bool {
		if time.Now().Before(r.until) {
			return false
		}
		stale, a.bytes = append(stale, r), a.bytes-int64(r.Size)
		return true
	})
	return stale
}

// put has messages ready, before what is, if they were taken and not handed over.
func (a *aside) put(ready []legible, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range ready {
		a.bytes += int64(r.Size)
	}
	if first {
		a.ready = slices.Concat(ready, a.ready)
	} else {
		a.ready = append(a.ready, ready...)
	}
}

// change notes that there is something to do.
func (a *aside) change() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// room returns for how many bytes there is room, if all that is ready may have most, and until when
// to wait for more, if that is too little or nothing else is to be done.
func (a *aside) room(most int64) (room int64, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	room = most - a.bytes
	if len(a.ready) > 0 && (room < most/2 || len(a.waiting) == 0) {
		wait = max(time.Until(a.ready[0].until), time.Millisecond)
	}
	return room, wait
}

// next returns what to look at: many that are certainly unreadable, or else many that were not
// weighed yet, or else one. It returns none, once, when there is no more.
func (a *aside) next() (some []suspect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	const together = 50
	some = a.remove(10*together, func(s suspect) bool { return s.cause != nil })
	if len(some) == 0 {
		some = a.remove(together, func(s suspect) bool { return !s.weighed })
	}
	if len(some) == 0 {
		some = a.remove(1, func(suspect) bool { return true })
	}
	a.working = len(some) > 0
	return some
}

// remove removes up to n of those that are so, the first that came.
func (a *aside) remove(n int, so func(suspect) bool) (removed []suspect) {
	a.waiting = slices.DeleteFunc(a.waiting, func(s suspect) bool {
		if len(removed) == n || !so(s) {
			return false
		}
		removed = append(removed, s)
		return true
	})
	return removed
}

// late returns those that there is no time for any more. It forgets those whose leases have
// ended: they are claimed again.
func (a *aside) late() (late []unread) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.DeleteFunc(a.waiting, func(s suspect) bool {
		if s.isLate() && time.Now().Before(s.until) {
			late = append(late, s.unread)
		}
		return s.isLate()
	})
	return late
}

// wait has messages wait behind the others.
func (a *aside) wait(some ...suspect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, some...)
}

// lookAside looks at all that is put aside. When it ends before that, it gives back what is left.
func (s *store) lookAside(ctx context.Context) {
	own, err := s.aside.all.open(s.pool)
	if err != nil {
		s.logger.Error("ezq: messages that are put aside cannot be looked at; they come back when their leases end",
			"topic", s.topic, "queue", s.queue, "error", err)
		s.aside.clear()
		return
	}
	defer s.aside.all.leave()
	for ctx.Err() == nil {
		room, wait := s.aside.room(s.most)
		if wait > 0 {
			await(ctx, s.aside.changed, wait)
		}
		more := true
		s.aside.all.step(ctx, func() { more = s.stepAside(ctx, own, room, wait == 0) })
		if !more {
			return
		}
	}
	rest, stop := context.WithTimeout(context.WithoutCancel(ctx), operationTimeout)
	defer stop()
	var left []subscription.Token
	for _, r := range s.aside.take(math.MaxInt) {
		left = append(left, r.Token)
	}
	for _, u := range s.aside.clear() {
		left = append(left, u.row.token())
	}
	s.putBack(rest, left)
}

// stepAside gives back what no claim has taken and what there is no time for, and looks at some of
// the others, if it is to. It reports whether there may be more.
func (s *store) stepAside(ctx context.Context, own batcher, room int64, look bool) bool {
	s.giveBack(ctx, own, s.aside.stale())
	s.quarantine(ctx, own, inTime(s.aside.late()))
	if !look {
		return true
	}
	switch some := s.aside.next(); {
	case len(some) == 0:
		return false
	case some[0].cause != nil:
		s.quarantine(ctx, own, unreadIn(some))
	case some[0].weighed:
		s.examine(ctx, own, some[0])
	default:
		s.weigh(ctx, own, some, room)
	}
	return true
}

// await waits until something has changed, but no longer than that.
func await(ctx context.Context, changed <-chan struct{}, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// clear removes what waits, and returns it.
func (a *aside) clear() (waiting []suspect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting, a.waiting, a.working = a.waiting, nil, false
	return waiting
}

// lightWeight is what many messages may have each to be read together, if MaxMessage is not less.
const lightWeight = 1 << 20

// weigh archives the messages that are certainly too large, reads the light ones together, and has
// the others wait to be read by themselves.
func (s *store) weigh(ctx context.Context, db batcher, some []suspect, room int64) {
	var light, heavy []suspect
	var certain []unread
	limit := max(s.limit/64, min(s.limit, lightWeight))
	weights, failed := s.weights(ctx, db, some, limit)
	for _, u := range some {
		switch weight, known := weights[u.row.ID]; {
		case known && weight == 0:
			light = append(light, u)
		case known && limit == s.limit:
			certain = append(certain, u.tooHeavy(weight, s.limit))
		case known || failed[u.row.ID]:
			heavy = append(heavy, u)
		default:
			s.aside.wait(u)
		}
	}
	s.examineTogether(ctx, db, light, room)
	weights, _ = s.weights(ctx, db, heavy, s.limit)
	for _, u := range heavy {
		if weight := weights[u.row.ID]; weight > 0 {
			certain = append(certain, u.tooHeavy(weight, s.limit))
		} else {
			u.weighed = true
			s.aside.wait(u)
		}
	}
	s.quarantine(ctx, db, certain)
}

func (s suspect) tooHeavy(weight int64, limit int) unread {
	s.cause = fmt.Errorf("the message has at least %d bytes, and MaxMessage is %d", weight, limit)
	return s.unread
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
func (s *store) examineTogether(ctx context.Context, db batcher, some []suspect, room int64) {
	if len(some) == 0 {
		return
	}
	byID := map[int64]suspect{}
	rows := make([]row, len(some))
	for i, u := range some {
		rows[i], byID[u.row.ID] = u.row, u
	}
	found, failed, untried := s.readTogether(ctx, db, rows, togetherFor, room)
	s.quarantine(ctx, db, found.tooLarge)
	s.distrust(ctx, db, found.forged)
	for _, r := range failed {
		alone := byID[r.ID]
		alone.weighed = true
		s.aside.wait(alone)
	}
	for _, r := range untried {
		s.aside.wait(byID[r.ID])
	}
	for _, token := range found.surplus {
		s.aside.wait(byID[token.ID])
	}
	s.handOver(ctx, db, found.leases, byID, some[0].lease)
}

// weights returns how large messages are at least, as far as it is known: 0 up to limit; and those
// that cannot be weighed.
func (s *store) weights(ctx context.Context, db batcher, some []suspect, limit int) (weights map[int64]int64, failed ids) {
	rows := make([]row, len(some))
	for i, u := range some {
		rows[i] = u.row
	}
	weights, failed = map[int64]int64{}, ids{}
	alone, _ := bisect(rows, togetherFor, func(part []row, patience time.Duration) error {
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
// takes long to read lets all others go first, and has more time each time that it comes back.
func (s *store) examine(ctx context.Context, db batcher, u suspect) {
	patience := siftFor / 5
	if u.slow {
		patience = min(readTimeout*time.Duration(max(u.row.Number, 1)), max(u.lease/4, readTimeout))
	}
	found, err := s.read(ctx, db, []row{u.row}, patience)
	switch doubtful := isDoubtful(err); {
	case !u.slow && isCode(err, "57014"):
		u.slow = true
		s.aside.wait(u)
	case isCode(err, "57014"):
		u.cause, u.doubtful = fmt.Errorf("PostgreSQL takes longer than %v to write it out", patience), true
		s.quarantine(ctx, db, []unread{u.unread})
	case doubtful || isUnreadable(err):
		u.cause, u.doubtful = withoutSecrets(err), doubtful
		s.quarantine(ctx, db, []unread{u.unread})
	case err != nil: // not the message's fault: it is tried again, until its lease is about to end
		s.aside.wait(u)
		await(ctx, nil, unreachableFor)
	default:
		s.quarantine(ctx, db, found.tooLarge)
		s.distrust(ctx, db, found.forged)
		s.handOver(ctx, db, found.leases, map[int64]suspect{u.row.ID: u}, u.lease)
	}
}

// unreachableFor is how long a server is left alone that could not be reached.
const unreachableFor = siftFor / 5

// handOver renews the leases of messages that could be read, for the next claim to take them. If it
// cannot, they wait once more.
func (s *store) handOver(ctx context.Context, db batcher, leases []subscription.Lease, from map[int64]suspect, lease time.Duration) {
	if len(leases) == 0 {
		return // somebody has taken it away
	}
	var all tokens
	for _, l := range leases {
		all.add(l.Token)
	}
	batch := newTransaction()
	batch.Queue(s.sql().extend, all.ids, all.numbers, all.times, lease.Microseconds())
	if err := batch.run(ctx, db); err != nil {
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
func (s *store) giveBack(ctx context.Context, db batcher, messages []legible) {
	if len(messages) == 0 {
		return
	}
	back := make([]subscription.Settlement, len(messages))
	for i, m := range messages {
		back[i] = subscription.Settlement{Token: m.Token, Action: subscription.Nack, Bare: true}
		back[i].Verdict.Uncounted, back[i].Verdict.Delay = true, time.Second
	}
	batch := newTransaction()
	s.settle(batch, back)
	_ = batch.run(ctx, db) // or they come back when their leases end
}
