package lease

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// suspects is the suspicious messages of one queue: leased, and to be looked at beside
// the claims.
type suspects struct {
	start func() // has them examined
	limit int

	mu                 sync.Mutex
	waiting            []suspect
	working            bool
	ready              []examined
	bytes              int64             // of what is ready
	archiveLockedUntil time.Time         // until when the archive is left alone
	batchLimit         int               // how many to size together, if not maxExamineBatch
	singleNext         bool              // one that was sized is to be looked at next
	deferred           map[int64]suspect // postponed ones, by their ids
	bad                time.Time         // when one was last known to be unreadable, or slow
	changed            chan struct{}     // holds a token when there is more to look at, or less that is ready
}

// maxSuspects is how many messages of a queue may be suspects at a time. There is no time to read
// others.
const maxSuspects = 10_000

// maxExamineBatch is how many messages are sized together.
const maxExamineBatch = 50

func newSuspects() *suspects {
	return &suspects{limit: maxSuspects, changed: make(chan struct{}, 1)}
}

// add has messages looked at, and returns the messages that there is no room for. What is known of one that was put off
// holds, except that each third time it is sized again: there may have been no time for that on a busy machine, and one
// that is certainly too large takes long to read for ever.
func (q *suspects) add(messages []unread, lease time.Duration) (surplus []unread) {
	q.mu.Lock()
	defer q.mu.Unlock()
	capacity := min(len(messages), max(q.limit-len(q.waiting), 0))
	for _, u := range messages[:capacity] {
		old := q.deferred[u.row.ID]
		delete(q.deferred, u.row.ID)
		q.waiting = append(q.waiting, suspect{unread: u, small: old.small, sized: old.sized && u.row.Number%3 != 0, slow: old.slow, lease: lease, until: time.Now().Add(lease)})
	}
	if !q.working && len(q.waiting) > 0 {
		q.working = true
		q.start()
	}
	q.signal()
	return messages[capacity:]
}

func (q *suspects) hasReady() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) > 0
}

// takeReady returns up to n of what can be handed over.
func (q *suspects) takeReady(n int) []examined {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.ready))
	taken := slices.Clone(q.ready[:n])
	q.ready = slices.Delete(q.ready, 0, n)
	for _, r := range taken {
		q.bytes -= int64(r.Size)
	}
	if n > 0 {
		q.signal()
	}
	return taken
}

// takeExpired removes what no claim has taken in time, and returns it.
func (q *suspects) takeExpired() (stale []examined) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = slices.DeleteFunc(q.ready, func(r examined) bool {
		if time.Now().Before(r.until) {
			return false
		}
		stale, q.bytes = append(stale, r), q.bytes-int64(r.Size)
		return true
	})
	return stale
}

// addReady has messages ready, before what is, if they were taken and not handed over.
func (q *suspects) addReady(ready []examined, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range ready {
		q.bytes += int64(r.Size)
	}
	if first {
		q.ready = slices.Concat(ready, q.ready)
	} else {
		q.ready = append(q.ready, ready...)
	}
}

// signal notes that there is something to do.
func (q *suspects) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// capacity returns for how many bytes there is room, if all that is ready may have maxBytes, and until when
// to wait for more, if that is too little or nothing else is to be done.
func (q *suspects) capacity(maxBytes int64) (capacity int64, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	capacity = maxBytes - q.bytes
	blocked := time.Until(q.archiveLockedUntil)
	idle := !slices.ContainsFunc(q.waiting, func(s suspect) bool { return s.isUncertain() || blocked <= 0 })
	if len(q.ready) > 0 && (capacity < maxBytes/2 || idle) {
		wait = max(time.Until(q.ready[0].until), time.Millisecond)
	}
	if idle && len(q.waiting) > 0 && (wait == 0 || blocked < wait) {
		wait = blocked
	}
	return capacity, wait
}

// nextBatch returns what to look at: many that are certainly unreadable, or else many that were not
// sized yet, or else one. One that has waited for a quarter of its lease takes turns with many.
// There may be none while the archive is locked. It reports that there are no more once.
func (q *suspects) nextBatch() (some []suspect, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Until(q.archiveLockedUntil) <= 0 {
		some = q.takeMatching(10*maxExamineBatch, func(s suspect) bool { return !s.isUncertain() })
	}
	if len(some) == 0 && q.singleNext {
		some = q.takeMatching(1, func(s suspect) bool { return s.isUncertain() && s.sized && time.Until(s.until) < 3*s.lease/4 })
	}
	if len(some) == 0 {
		some = q.takeMatching(cmp.Or(q.batchLimit, maxExamineBatch), func(s suspect) bool { return s.isUncertain() && !s.sized })
	}
	if len(some) == 0 {
		some = q.takeMatching(1, suspect.isUncertain)
	}
	q.singleNext = len(some) > 0 && some[0].isUncertain() && !some[0].sized
	q.working = len(some) > 0 || len(q.waiting) > 0
	return some, q.working
}

// recordSizes notes of how many messages the size was asked for, is known, and cannot be known. Where
// there is no time for all, fewer are sized together the next time.
func (q *suspects) recordSizes(all, known, failed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case known+failed < all:
		q.batchLimit = max(all/4, 1)
	case failed == 0 && all == q.batchLimit:
		q.batchLimit = min(2*q.batchLimit, maxExamineBatch)
	}
}

// deferSuspects keeps what is known of a message that is put off.
func (q *suspects) deferSuspects(some ...suspect) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deferLocked(some)
}

func (q *suspects) deferLocked(some []suspect) {
	if q.deferred == nil || len(q.deferred)+len(some) > q.limit {
		q.deferred = map[int64]suspect{}
	}
	for _, s := range some {
		if s.small || s.sized {
			q.deferred[s.row.ID] = s
		}
	}
}

// takeMatching removes up to n of those that are so, the first that came.
func (q *suspects) takeMatching(n int, matches func(suspect) bool) (removed []suspect) {
	q.waiting = slices.DeleteFunc(q.waiting, func(s suspect) bool {
		if len(removed) == n || !matches(s) {
			return false
		}
		removed = append(removed, s)
		return true
	})
	return removed
}

// takeLate returns those that there is no time to read any more. It forgets those whose leases have
// ended: they are claimed again. One that was sized stays, to be extended, if there is time for no
// other: so however long it takes to size messages, and to read them, some are read.
func (q *suspects) takeLate() (late []unread) {
	q.mu.Lock()
	defer q.mu.Unlock()
	inTime := slices.ContainsFunc(q.waiting, func(s suspect) bool { return s.isUncertain() && s.sized && !s.failed && !s.isLate() })
	q.waiting = slices.DeleteFunc(q.waiting, func(s suspect) bool {
		switch {
		case !s.isUncertain() || !s.isLate():
			return false
		case s.sized && !s.failed && !inTime:
			inTime = true
			return false
		case time.Now().Before(s.until):
			late = append(late, s.unread)
		}
		q.deferLocked([]suspect{s})
		return true
	})
	return late
}

// takeOverdue removes those that have to wait longer than their leases: until their archive is not
// locked, or for their turn.
func (q *suspects) takeOverdue() []suspect {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.takeMatching(len(q.waiting), func(s suspect) bool {
		return s.isLate() || !s.isUncertain() && time.Until(s.until) < s.lease/2
	})
}

// pauseArchiving has nothing moved to the archive for a moment in which no lease ends.
func (q *suspects) pauseArchiving(lease time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.archiveLockedUntil = time.Now().Add(min(lease/8, OperationTimeout))
}

// requeue has messages wait behind the others.
func (q *suspects) requeue(some ...suspect) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, some...)
	if slices.ContainsFunc(some, suspect.isBad) {
		q.bad = time.Now()
	}
}

// recordBad notes that one is unreadable, or slow.
func (q *suspects) recordBad() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bad = time.Now()
}

// lastBad returns when one was last known to be unreadable, or slow.
func (q *suspects) lastBad() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bad
}

// takeWaiting removes what waits, and returns it.
func (q *suspects) takeWaiting() (waiting []suspect) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting, q.waiting, q.working = q.waiting, nil, false
	return waiting
}
