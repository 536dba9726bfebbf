package pgmq

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
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
	bytes   int64             // of what is ready
	locked  time.Time         // until when the archive is left alone
	width   int               // how many to weigh together, if not maxTogether
	alone   bool              // one that was weighed is to be looked at next
	known   map[int64]suspect // by their ids: what was put off
	changed chan struct{}     // holds a token when there is more to look at, or less that is ready
}

// maxAside is how many messages of a queue may be put aside at a time. There is no time to read
// others.
const maxAside = 10_000

// maxTogether is how many messages are weighed together.
const maxTogether = 50

func newAside(all *asides) *aside {
	return &aside{all: all, limit: maxAside, changed: make(chan struct{}, 1)}
}

// suspect is a message that is put aside.
type suspect struct {
	unread
	light   bool // it is to be read with others
	weighed bool // it is to be read by itself
	slow    bool // that took long once
	failed  bool // that failed for another reason than the message
	lease   time.Duration
	until   time.Time // when its lease ends, or earlier
}

// legible is a message that could be read, and waits for the next claim. If that does not come, the
// consumer has no room.
type legible struct {
	subscription.Lease
	until time.Time // it is given back then
}

// isOpen reports whether it is not known that the message cannot be read.
func (s suspect) isOpen() bool { return s.cause == nil }

// isLate reports whether there is no time to read the message before its lease ends.
func (s suspect) isLate() bool { return time.Until(s.until) < s.lease/4 }

// putAside has messages looked at, whose leases have begun less than a moment ago.
func (s *store) putAside(ctx context.Context, messages []unread, lease time.Duration) {
	s.putOff(ctx, s.pool, inTime(s.keepAside(messages, lease)))
}

// keepAside returns the messages that there is no room for.
func (s *store) keepAside(messages []unread, lease time.Duration) (surplus []unread) {
	a := s.aside
	a.mu.Lock()
	defer a.mu.Unlock()
	room := min(len(messages), max(a.limit-len(a.waiting), 0))
	for _, u := range messages[:room] {
		old := a.known[u.row.ID]
		delete(a.known, u.row.ID)
		a.waiting = append(a.waiting, suspect{unread: u, light: old.light, weighed: old.weighed, slow: old.slow, lease: lease, until: time.Now().Add(lease)})
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
	blocked := time.Until(a.locked)
	idle := !slices.ContainsFunc(a.waiting, func(s suspect) bool { return s.isOpen() || blocked <= 0 })
	if len(a.ready) > 0 && (room < most/2 || idle) {
		wait = max(time.Until(a.ready[0].until), time.Millisecond)
	}
	if idle && len(a.waiting) > 0 && (wait == 0 || blocked < wait) {
		wait = blocked
	}
	return room, wait
}

// next returns what to look at: many that are certainly unreadable, or else many that were not
// weighed yet, or else one. One that has waited for a quarter of its lease takes turns with many.
// There may be none while the archive is locked. It reports that there are no more once.
func (a *aside) next() (some []suspect, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Until(a.locked) <= 0 {
		some = a.remove(10*maxTogether, func(s suspect) bool { return !s.isOpen() })
	}
	if len(some) == 0 && a.alone {
		some = a.remove(1, func(s suspect) bool { return s.isOpen() && s.weighed && time.Until(s.until) < 3*s.lease/4 })
	}
	if len(some) == 0 {
		some = a.remove(cmp.Or(a.width, maxTogether), func(s suspect) bool { return s.isOpen() && !s.weighed })
	}
	if len(some) == 0 {
		some = a.remove(1, suspect.isOpen)
	}
	a.alone = len(some) > 0 && some[0].isOpen() && !some[0].weighed
	a.working = len(some) > 0 || len(a.waiting) > 0
	return some, a.working
}

// weighed notes of how many messages the weight was asked for, is known, and cannot be known. Where
// there is no time for all, fewer are weighed together the next time.
func (a *aside) weighed(all, known, failed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case known+failed < all:
		a.width = max(all/4, 1)
	case failed == 0 && all == a.width:
		a.width = min(2*a.width, maxTogether)
	}
}

// remember keeps what is known of a message that is put off.
func (a *aside) remember(some ...suspect) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(some)
}

func (a *aside) keep(some []suspect) {
	if a.known == nil || len(a.known)+len(some) > a.limit {
		a.known = map[int64]suspect{}
	}
	for _, s := range some {
		if s.light || s.weighed {
			a.known[s.row.ID] = s
		}
	}
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

// late returns those that there is no time to read any more. It forgets those whose leases have
// ended: they are claimed again. One that was weighed stays, to be renewed, if there is time for no
// other: so however long it takes to weigh messages, and to read them, some are read.
func (a *aside) late() (late []unread) {
	a.mu.Lock()
	defer a.mu.Unlock()
	inTime := slices.ContainsFunc(a.waiting, func(s suspect) bool { return s.isOpen() && s.weighed && !s.failed && !s.isLate() })
	a.waiting = slices.DeleteFunc(a.waiting, func(s suspect) bool {
		switch {
		case !s.isOpen() || !s.isLate():
			return false
		case s.weighed && !s.failed && !inTime:
			inTime = true
			return false
		case time.Now().Before(s.until):
			late = append(late, s.unread)
		}
		a.keep([]suspect{s})
		return true
	})
	return late
}

// overdue removes those that have to wait longer than their leases: until their archive is not
// locked, or for their turn.
func (a *aside) overdue() []suspect {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.remove(len(a.waiting), func(s suspect) bool {
		return s.isLate() || !s.isOpen() && time.Until(s.until) < s.lease/2
	})
}

// leaveArchive has nothing moved to the archive for a moment in which no lease ends.
func (a *aside) leaveArchive(lease time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.locked = time.Now().Add(min(lease/8, operationTimeout))
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
func (s *store) stepAside(ctx context.Context, own *pgxpool.Pool, room int64, look bool) bool {
	s.giveBack(ctx, own, s.aside.stale())
	s.putOff(ctx, own, inTime(s.aside.late()))
	s.renew(ctx, own, s.aside.overdue())
	if !look {
		return true
	}
	some, more := s.aside.next()
	switch {
	case len(some) == 0:
	case !some[0].isOpen():
		s.archive(ctx, own, some)
	case some[0].weighed:
		s.examine(ctx, own, some[0])
	default:
		s.weigh(ctx, own, some, room)
	}
	return more
}

// archive moves messages to the archive. They wait while it is locked.
func (s *store) archive(ctx context.Context, db *pgxpool.Pool, some []suspect) {
	locked := s.quarantine(ctx, db, unreadIn(some))
	if len(locked) == 0 {
		return
	}
	from := byID(some)
	for _, u := range locked {
		s.aside.wait(from[u.row.ID])
	}
	s.aside.leaveArchive(some[0].lease)
}

// renew renews the leases of messages that wait. It forgets those that other consumers have taken.
func (s *store) renew(ctx context.Context, db *pgxpool.Pool, some []suspect) {
	s.aside.wait(s.renewed(ctx, db, some)...)
}

// renewed renews leases, and returns what was not taken away.
func (s *store) renewed(ctx context.Context, db *pgxpool.Pool, some []suspect) (still []suspect) {
	if len(some) == 0 {
		return nil
	}
	all := make([]subscription.Token, len(some))
	for i, u := range some {
		all[i] = u.row.token()
	}
	until := time.Now().Add(some[0].lease)
	found, err := s.extend(ctx, db, all, some[0].lease)
	for _, u := range some {
		switch {
		case err == nil && found[u.row.ID]:
			u.until = until
			still = append(still, u)
		case err != nil && time.Now().Before(u.until):
			still = append(still, u)
		}
	}
	return still
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
