package subscription

import (
	"sync"
	"time"
)

// settlementQueue is settlements that are not stored yet.
type settlementQueue struct {
	added      chan struct{} // holds a token when there may be something to store that is of no group,
	addedGroup chan struct{} // or that is of one
	idle       chan struct{} // holds a token while nothing is being stored that a lost lock has left

	mu        sync.Mutex
	queue     []Settlement // in the order in which they came, or came back
	lastGroup int
	cause     error         // of the last refusal
	slowAt    time.Time     // when the store was last too slow for some
	silences  int           // calls that were too slow, since the last one that was answered
	latency   time.Duration // of that one
}

// attempt is how a settlement is sent to the store the next time.
type attempt struct {
	due   time.Time     // not before that
	wait  time.Duration // since the last time; zero: it was not postponed
	group int           // only with those of the same group, until it is known which of them the store takes; zero: with any
}

// refusedGroup is the group of the settlements that the store refuses for now.
const refusedGroup = -1

// busyMin and busyMax bound the wait before a settlement is tried again whose message was
// locked.
const (
	busyMin = 10 * time.Millisecond
	busyMax = time.Second
)

func newSettlementQueue() *settlementQueue {
	q := &settlementQueue{added: make(chan struct{}, 1), addedGroup: make(chan struct{}, 1), idle: make(chan struct{}, 1)}
	q.end()
	return q
}

// begin waits until nothing is under way that a lost lock has left, and keeps others from taking that until
// end.
func (q *settlementQueue) begin() { <-q.idle }

func (q *settlementQueue) end() { q.idle <- struct{}{} }

// add adds settlements: new ones, and those that could not be stored. All are of the same group, or of none.
func (q *settlementQueue) add(settlements ...Settlement) {
	if len(settlements) == 0 {
		return
	}
	q.mu.Lock()
	q.queue = append(q.queue, settlements...)
	q.mu.Unlock()
	if settlements[0].group == 0 {
		signal(q.added)
	} else {
		signal(q.addedGroup)
	}
}

// addGroup adds settlements that are sent together, without others, and not at once.
func (q *settlementQueue) addGroup(settlements []Settlement, after time.Duration) {
	q.mu.Lock()
	q.lastGroup++
	group := q.lastGroup
	q.mu.Unlock()
	due := time.Now().Add(after)
	for i := range settlements {
		settlements[i].group, settlements[i].due = group, due
	}
	q.add(settlements...)
}

// postpone adds settlements that are tried again after a wait, which grows each time. All
// that wait for the same reason are tried together.
func (q *settlementQueue) postpone(settlements []Settlement, wait backoff) {
	if len(settlements) == 0 {
		return
	}
	for i := range settlements {
		wait.last = max(wait.last, settlements[i].wait)
	}
	next := attempt{group: settlements[0].group, due: time.Now().Add(wait.next())}
	next.wait = wait.last
	next = q.postponed(next)
	for i := range settlements {
		settlements[i].attempt = next
	}
	q.add(settlements...)
}

// postponeRefused adds settlements that the store refuses for now.
func (q *settlementQueue) postponeRefused(settlements []Settlement, cause error) {
	q.mu.Lock()
	q.cause = cause
	q.mu.Unlock()
	for i := range settlements {
		settlements[i].group = refusedGroup
	}
	q.postpone(settlements, backoff{min: refusedMin, max: refusedMax})
}

// refusal returns why the store has refused a settlement last.
func (q *settlementQueue) refusal() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cause
}

// postponed returns the attempt that others of the same group wait for, or else the given one.
func (q *settlementQueue) postponed(otherwise attempt) attempt {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for i := range q.queue {
		if s := &q.queue[i]; s.group == otherwise.group && !s.isDue(now) {
			return s.attempt
		}
	}
	return otherwise
}

// take removes up to n settlements of no group that are due, and that no lost lock has left.
func (q *settlementQueue) take(n int) []Settlement {
	now := time.Now()
	return q.remove(n, func(s *Settlement) bool { return s.group == 0 && !s.unleased && s.isDue(now) })
}

// takeUnleased removes up to n settlements of no group that a lost lock has left, and that are due, or with early
// also those that are not yet.
func (q *settlementQueue) takeUnleased(n int, early bool) []Settlement {
	now := time.Now()
	return q.remove(n, func(s *Settlement) bool { return s.group == 0 && s.unleased && (early || s.isDue(now)) })
}

// takeGroup removes the group that came last, of those that are due, or else the one that came first.
// Refused settlements are found sooner in the parts of one batch than in all batches at a time; and most others are
// stored sooner if the parts of what has failed come last.
func (q *settlementQueue) takeGroup(last bool) []Settlement {
	group := q.dueGroup(last)
	if group == 0 {
		return nil
	}
	return q.remove(settleBatch, func(s *Settlement) bool { return s.group == group })
}

// dueGroup returns the number of the group that came last, or first, of those that are due, or 0 if
// there is none.
func (q *settlementQueue) dueGroup(last bool) (group int) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queue {
		if s := &q.queue[i]; s.group > 0 && s.isDue(now) && (group == 0 || last == (s.group > group)) {
			group = s.group
		}
	}
	return group
}

// takeRefused removes settlements that the store has refused for the time being, and that are
// due. The groups come first: most of them can be stored.
func (q *settlementQueue) takeRefused() []Settlement {
	now := time.Now()
	if q.contains(func(s *Settlement) bool { return s.group > 0 && (s.isDue(now) || s.isSearched()) }) {
		return nil
	}
	n := settleBatch
	if q.mayBeSlow() {
		n = 1
	}
	return q.remove(n, func(s *Settlement) bool { return s.group == refusedGroup && s.isDue(now) })
}

func (q *settlementQueue) contains(qualifies func(*Settlement) bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queue {
		if qualifies(&q.queue[i]) {
			return true
		}
	}
	return false
}

func (a *attempt) isDue(now time.Time) bool { return !now.Before(a.due) }

// isSearched reports whether a settlement waits a moment until the search for one that is slow
// goes on. If others have locked its message for long, it is not waited for.
func (a *attempt) isSearched() bool { return a.group > 0 && a.wait < busyMax }

// remove removes up to n of the settlements that qualify, oldest first: those that can be
// sent together with the one that has been postponed least. Settlements that were never postponed
// do not wait for locked messages. Each keeps its group: should its message be locked, as by a
// statement that is being cancelled, it must not come between those of which nothing is suspected.
func (q *settlementQueue) remove(n int, qualifies func(*Settlement) bool) (batch []Settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *Settlement
	for i := range q.queue {
		if s := &q.queue[i]; qualifies(s) && (first == nil || s.wait < first.wait) {
			first = s
		}
		if first != nil && first.wait == 0 {
			break
		}
	}
	if first == nil {
		return nil
	}
	batch = make([]Settlement, 0, min(n, len(q.queue)))
	topic, group, rest := first.topic(), first.group, q.queue[:0]
	for _, s := range q.queue {
		if len(batch) < n && s.group == group && s.topic() == topic && qualifies(&s) {
			batch = append(batch, s)
		} else {
			rest = append(rest, s)
		}
	}
	clear(q.queue[len(rest):])
	q.queue = rest
	return batch
}

// clear removes all.
func (q *settlementQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = nil
}

// len returns how many settlements are not stored.
func (q *settlementQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// messages returns of how many messages settlements are not stored: there are several of one
// that was delivered again meanwhile.
func (q *settlementQueue) messages() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := map[int64]struct{}{}
	for i := range q.queue {
		ids[q.queue[i].ID] = struct{}{}
	}
	return len(ids)
}

// silent records that the store was too slow for settlements of a group, or of none.
func (q *settlementQueue) silent(group int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.slowAt = time.Now()
	if group != refusedGroup {
		q.silences++
	}
}

// mayBeSlow reports whether the store was too slow for some settlements of late: then it may be for others.
func (q *settlementQueue) mayBeSlow() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.slowAt.IsZero() && time.Since(q.slowAt) < slowPeriod
}

// answered records how long a call has taken.
func (q *settlementQueue) answered(took time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.latency, q.silences = took, 0
}

// patience returns how long a call may take that may take most: all of that, or, while some settlements are
// slow, a second, or four times as long as the last call that was answered. It doubles while none is answered.
func (q *settlementQueue) patience(most time.Duration) time.Duration {
	if !q.mayBeSlow() {
		return most
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return min(most, max(patienceMin, 4*q.latency)<<min(max(q.silences-1, 0), 3))
}

// untilDue returns how long until there is something to send of no group, or -1 if there is nothing.
func (q *settlementQueue) untilDue() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := time.Duration(-1)
	for i := range q.queue {
		if s := &q.queue[i]; s.group == 0 {
			if wait = sooner(wait, max(time.Until(s.due), 0)); wait == 0 {
				return 0
			}
		}
	}
	return wait
}

// untilGroupDue returns how long until there is a group to send, or -1 if there is none.
func (q *settlementQueue) untilGroupDue() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait, refused := time.Duration(-1), time.Duration(-1)
	searched := false
	for i := range q.queue {
		s := &q.queue[i]
		until := max(time.Until(s.due), 0)
		switch {
		case s.group == refusedGroup:
			refused = sooner(refused, until)
		case s.group > 0:
			searched = searched || s.isSearched()
			wait = sooner(wait, until)
		}
	}
	if searched { // see takeRefused
		return wait
	}
	return sooner(wait, refused)
}

// unleased returns how many settlements there are that a lost lock has left, whether they are due or
// not. Groups do not count, nor settlements that the store refuses for now: acks, whose
// messages are leased, and those without an ack.
func (q *settlementQueue) unleased() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queue {
		if q.queue[i].group == 0 && q.queue[i].unleased {
			n++
		}
	}
	return n
}
