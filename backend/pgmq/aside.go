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

// maxAside is how many messages of a queue may be put aside at a time. The leases of others
// end, and they are claimed again.
const maxAside = 10_000

func newAside(all *asides) *aside { return &aside{all: all, limit: maxAside} }

// suspect is a message that is put aside.
type suspect struct {
	unread
	weighed bool // it is not certain that it is too large
	slow    bool // nor could it be read at once
	lease   time.Duration
	until   time.Time // when its lease ends, or earlier
}

// putAside has messages looked at, whose leases have begun less than a moment ago.
func (s *store) putAside(messages []unread, lease time.Duration) {
	a := s.aside
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range messages[:min(len(messages), max(a.limit-len(a.waiting), 0))] {
		a.waiting = append(a.waiting, suspect{unread: u, lease: lease, until: time.Now().Add(lease)})
	}
	if !a.working && len(a.waiting) > 0 {
		a.working = true
		a.all.run(s.lookAside)
	}
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

// next returns what to look at: many that were not weighed yet, the last that came first, among
// which there may be one that only came with the others; or else one. It returns none, once,
// when there is no more.
func (a *aside) next() (some []suspect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	const together = 50
	fresh := func(s suspect) bool { return !s.weighed }
	if i := slices.IndexFunc(a.waiting, fresh); i >= 0 {
		end := i
		for end < len(a.waiting) && fresh(a.waiting[end]) {
			end++
		}
		i = max(i, end-together)
		some = slices.Clone(a.waiting[i:end])
		a.waiting = slices.Delete(a.waiting, i, end)
		return some
	}
	if len(a.waiting) == 0 {
		a.working = false
		return nil
	}
	some = []suspect{a.waiting[0]}
	a.waiting = slices.Delete(a.waiting, 0, 1)
	return some
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
		switch {
		case ctx.Err() != nil, err != nil:
		case some[0].weighed:
			s.examine(ctx, own, some[0])
		default:
			s.weigh(ctx, own, some)
		}
	}
}

// weigh archives the messages that are certainly too large, reads those together that are
// small, and has the others wait to be read by themselves.
func (s *store) weigh(ctx context.Context, db batcher, some []suspect) {
	var certain []unread
	var light []row
	var rest []suspect
	byID := map[int64]suspect{}
	weights := s.weights(ctx, db, some, max(s.limit/64, 8192))
	for _, u := range some {
		u.weighed = true
		weight, known := weights[u.row.ID]
		switch byID[u.row.ID] = u; {
		case u.cause != nil:
			certain = append(certain, u.unread)
		case known && weight == 0:
			light = append(light, u.row)
		default:
			rest = append(rest, u)
		}
	}
	found, unreadable := s.readTogether(ctx, db, light)
	s.distrust(ctx, db, found.forged)
	s.handOver(ctx, db, found.leases, some[0].lease)
	for _, u := range unreadable {
		s.aside.wait(byID[u.row.ID])
	}
	for _, token := range found.surplus { // too many to be handed over together
		s.aside.wait(byID[token.ID])
	}
	weights = s.weights(ctx, db, rest, s.limit)
	for _, u := range rest {
		if weight := weights[u.row.ID]; weight > 0 {
			u.cause = fmt.Errorf("the message has at least %d bytes, and MaxMessage is %d", weight, s.limit)
			certain = append(certain, u.unread)
		} else {
			s.aside.wait(u)
		}
	}
	s.quarantine(ctx, db, append(certain, found.tooLarge...))
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
	if time.Until(u.until) < u.lease/4 {
		u.cause, u.doubtful = errInTime, true
		s.quarantine(ctx, db, []unread{u.unread})
		return
	}
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
