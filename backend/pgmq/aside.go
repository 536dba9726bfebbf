package pgmq

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/internal/subscription"
)

// asides has the messages that are put aside looked at, those of one queue at a time, on a
// connection that is open for as long.
type asides struct {
	ctx    context.Context //nolint:containedctx // that of its goroutines: it ends with close
	cancel context.CancelFunc
	turn   chan struct{}

	mu     sync.Mutex
	closed bool
	done   sync.WaitGroup
}

func newAsides() *asides {
	ctx, cancel := context.WithCancel(context.Background())
	return &asides{ctx: ctx, cancel: cancel, turn: make(chan struct{}, 1)}
}

// run runs do, unless it is closed, when it is this one's turn.
func (a *asides) run(do func(ctx context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.done.Go(func() {
		select {
		case a.turn <- struct{}{}:
			do(a.ctx)
			<-a.turn
		case <-a.ctx.Done():
		}
	})
}

// close ends it. What was put aside comes back when its leases end.
func (a *asides) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.done.Wait()
}

// aside is the messages of one queue that are put aside: leased, and to be looked at beside
// the claims.
type aside struct {
	all   *asides
	limit int

	mu      sync.Mutex
	waiting []suspect
	working bool
	ready   []subscription.Lease // could be read
	taken   chan struct{}        // closed when they are taken
}

// maxAside is how many messages of a queue may be put aside at a time. There is no time to read
// others.
const maxAside = 10_000

func newAside(all *asides) *aside { return &aside{all: all, limit: maxAside} }

// suspect is a message that is put aside.
type suspect struct {
	unread
	weighed bool // it is to be read by itself
	slow    bool // that took long once
	lease   time.Duration
	until   time.Time // when its lease ends, or earlier
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
func (a *aside) take(n int) []subscription.Lease {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = min(n, len(a.ready))
	ready := a.ready[:n:n]
	if a.ready = a.ready[n:]; n > 0 && len(a.ready) == 0 {
		close(a.taken)
	}
	return ready
}

// putBack is for what was taken, and not handed over.
func (a *aside) putBack(ready []subscription.Lease) {
	if len(ready) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ready) == 0 {
		a.taken = make(chan struct{})
	}
	a.ready = slices.Concat(ready, a.ready)
}

// next returns what to look at: many that were not weighed yet, of those that look best, or else
// one. It returns none, once, when there is no more.
func (a *aside) next() (some []suspect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	const together = 50
	for look := harmless; look <= suspicious; look++ {
		some = a.remove(together, func(s suspect) bool { return !s.weighed && s.looks == look })
		if len(some) > 0 {
			return some
		}
	}
	some = a.remove(1, func(suspect) bool { return true })
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

// lookAside looks at all that is put aside, on one connection. If it cannot, it leaves it: it
// comes back when its leases end.
func (s *store) lookAside(ctx context.Context) {
	own, err := consumerPool(s.pool, 1)
	if err != nil {
		s.logger.Error("ezq: messages that are put aside cannot be looked at; they come back when their leases end",
			"queue", s.queue, "error", err)
	} else {
		defer closePool(own)
	}
	for some := s.aside.next(); len(some) > 0; some = s.aside.next() {
		if err != nil || ctx.Err() != nil {
			continue
		}
		switch {
		case some[0].weighed:
			s.examine(ctx, own, some[0])
		case some[0].looks == harmless:
			s.examineTogether(ctx, own, some)
		default:
			s.weigh(ctx, own, some)
		}
		s.quarantine(ctx, own, inTime(s.aside.late()))
	}
}

// weigh archives the messages that are certainly too large, reads the others together, the small
// ones first, and has those wait to be read by themselves that this fails for.
func (s *store) weigh(ctx context.Context, db batcher, some []suspect) {
	var certain []unread
	var light, rest []suspect
	weights := s.weights(ctx, db, some, max(s.limit/64, 8192))
	for _, u := range some {
		weight, known := weights[u.row.ID]
		switch {
		case u.cause != nil:
			certain = append(certain, u.unread)
		case known && weight == 0:
			light = append(light, u)
		default:
			rest = append(rest, u)
		}
	}
	s.examineTogether(ctx, db, light)
	var fair []suspect
	weights = s.weights(ctx, db, rest, s.limit)
	for _, u := range rest {
		switch weight, known := weights[u.row.ID]; {
		case weight > 0:
			u.cause = fmt.Errorf("the message has at least %d bytes, and MaxMessage is %d", weight, s.limit)
			certain = append(certain, u.unread)
		case known:
			fair = append(fair, u)
		default:
			u.weighed = true
			s.aside.wait(u)
		}
	}
	s.quarantine(ctx, db, certain)
	s.examineTogether(ctx, db, fair)
}

// examineTogether reads messages that are harmless, or that were weighed now. Those wait that
// there is no time for, or that are too many to be handed over together, and those for which it
// fails, to be read once more by themselves.
func (s *store) examineTogether(ctx context.Context, db batcher, some []suspect) {
	if len(some) == 0 {
		return
	}
	byID := map[int64]suspect{}
	rows := make([]row, len(some))
	for i, u := range some {
		rows[i], byID[u.row.ID] = u.row, u
	}
	found, failed, untried := s.readTogether(ctx, db, rows, readTimeout)
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
	s.handOver(ctx, db, found.leases, some[0].lease)
}

// weights returns how large messages are at least, as far as it is known: 0 up to limit.
func (s *store) weights(ctx context.Context, db batcher, some []suspect, limit int) map[int64]int64 {
	rows := make([]row, len(some))
	for i, u := range some {
		rows[i] = u.row
	}
	weights := map[int64]int64{}
	bisect(rows, readTimeout, func(part []row, patience time.Duration) error {
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
	return weights
}

// examine reads one message. If it can be read, it is handed over with the next claim. One that
// takes long to read lets all others go first.
func (s *store) examine(ctx context.Context, db batcher, u suspect) {
	patience := readTimeout
	if !u.slow {
		patience = siftFor / 5
	}
	found, err := s.read(ctx, db, []row{u.row}, patience)
	switch doubtful := isDoubtful(err); {
	case !u.slow && isCode(err, "57014"):
		u.slow = true
		s.aside.wait(u)
	case doubtful || isUnreadable(err):
		u.cause, u.doubtful = withoutSecrets(err), doubtful
		s.quarantine(ctx, db, []unread{u.unread})
	case err != nil: // not the message's fault: it comes back when its lease ends
		s.logger.Error("ezq: cannot read a message that was leased", "queue", s.queue, "msg_id", u.row.ID, "error", s.classify("fetch", err))
	default:
		s.quarantine(ctx, db, found.tooLarge)
		s.distrust(ctx, db, found.forged)
		s.handOver(ctx, db, found.leases, u.lease)
	}
}

// handOver renews the leases of messages that could be read, and waits for the next claim. If
// that does not come, the consumer has no room: it gives them back.
func (s *store) handOver(ctx context.Context, db batcher, leases []subscription.Lease, lease time.Duration) {
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
		return // it comes back when its lease ends
	}
	s.aside.putBack(leases)
	s.aside.mu.Lock()
	taken := s.aside.taken
	s.aside.mu.Unlock()
	s.hints.give(s.queue)
	timer := time.NewTimer(lease / 4)
	defer timer.Stop()
	select {
	case <-taken:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	var back []subscription.Settlement
	for _, l := range s.aside.take(len(leases)) {
		none := subscription.Settlement{Token: l.Token, Action: subscription.Nack, Bare: true}
		none.Verdict.Uncounted, none.Verdict.Delay = true, time.Second
		back = append(back, none)
	}
	if len(back) > 0 {
		batch := newTransaction()
		s.settle(batch, back)
		_ = batch.run(context.WithoutCancel(ctx), db) // or they come back when their leases end
	}
}
