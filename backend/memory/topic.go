package memory

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// topics are the topics of a Broker, each there as soon as it is named. One
// mutex guards them all, so that a message moves from one to another in one
// step.
type topics struct {
	mu     sync.Mutex
	byName map[string]*topic
	ticks  map[string]*schedule // by name
}

func newTopics() *topics {
	return &topics{byName: map[string]*topic{}, ticks: map[string]*schedule{}}
}

func (ts *topics) get(name string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.find(name)
}

func (ts *topics) find(name string) *topic {
	t, ok := ts.byName[name]
	if !ok {
		t = &topic{parent: ts, byID: map[int64]*entry{}, conditions: newConditions()}
		ts.byName[name] = t
	}
	return t
}

// search returns up to limit of the messages of a topic, and of its dead letters, that s chooses.
func (ts *topics) search(name string, s selector, limit int) (found []backend.Found) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	for _, at := range [...]struct {
		name  string
		place backend.Place
	}{{name, backend.InTopic}, {name + backend.DeadLetterSuffix, backend.InDeadLetters}} {
		if t, ok := ts.byName[at.name]; ok {
			for _, e := range s.find(t, limit-len(found)) {
				found = append(found, e.found(at.place, at.name, now))
			}
		}
	}
	return found
}

// cancel deletes the messages of a topic that s chooses and that wait, and counts the others.
func (ts *topics) cancel(name string, s selector) (removed, busy int) {
	return ts.change(name, s, (*topic).remove)
}

// reschedule moves the messages of a topic that s chooses and that wait, and counts the others.
func (ts *topics) reschedule(name string, s selector, at time.Time) (moved, busy int) {
	return ts.change(name, s, func(t *topic, e *entry) { t.moveTo(at, e) })
}

// change does something with the messages of a topic that s chooses and that wait, and counts the others.
func (ts *topics) change(name string, s selector, do func(*topic, *entry)) (done, busy int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.byName[name]
	if !ok {
		return 0, 0
	}
	now := time.Now()
	for _, e := range s.all(t) {
		if e.isBusy(now) {
			busy++
			continue
		}
		do(t, e)
		done++
	}
	return done, busy
}

// cancelRunning removes the messages of a topic that s chooses, those that are leased too.
func (ts *topics) cancelRunning(name string, s selector) (cancelled backend.Cancelled) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.byName[name]
	if !ok {
		return cancelled
	}
	now := time.Now()
	for _, e := range s.all(t) {
		if e.isBusy(now) {
			cancelled.Stopped++
		} else {
			cancelled.Removed++
		}
		t.remove(e)
	}
	if cancelled.Stopped > 0 && t.removed != nil {
		close(t.removed)
		t.removed = nil
	}
	return cancelled
}

// take takes tick for its schedule, if its time has come and it is not taken.
func (ts *topics) take(tick *backend.ScheduleTick) backend.TickResult {
	result := backend.TickResult{Now: time.Now()}
	s, known := ts.ticks[tick.Schedule]
	if !known {
		s = &schedule{last: result.Now, next: tick.Next}
		ts.ticks[tick.Schedule] = s
	}
	switch {
	case tick.At.After(result.Now):
		result.Outcome = backend.TickEarly
	case !tick.At.After(s.last):
		result.Outcome = backend.TickTaken
	default:
		s.last, s.next = tick.At, tick.Next
		if s.pauseAt(result.Now) != nil {
			result.Outcome = backend.TickPaused
		}
	}
	result.Last = s.last
	return result
}

// topic is the messages of one topic, ordered by when they become visible. A
// leased message is one that becomes visible when its lease runs out.
type topic struct {
	parent     *topics
	entries    entries
	byID       map[int64]*entry
	conditions conditions
	lastID     int64
	lastLease  time.Time
	pause      pause
	changed    chan struct{} // closed when a message may have become visible; nil if no claim waits
	removed    chan struct{} // closed when a leased message was removed; nil if no subscription waits for that
}

var (
	_ subscription.Store     = consumedTopic{}
	_ subscription.Pausable  = consumedTopic{}
	_ subscription.Removable = consumedTopic{}
)

// publication is what one call publishes.
type publication struct {
	entries    []*entry
	conditions []*backend.PublishCondition // one for each entry, which may be nil; or nil if none has one
	window     time.Duration               // for which the ID of what is stored once is remembered
}

// publish stores those of the entries that their conditions allow.
func (t *topic) publish(p publication) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	t.store(p)
}

func (t *topic) store(p publication) {
	for i, e := range p.entries {
		if p.conditions == nil || p.conditions[i] == nil {
			t.add(e)
			continue
		}
		p.conditions[i].Report(t.storeOn(p.conditions[i], e, p.window))
	}
}

// storeOn stores e if condition allows it.
func (t *topic) storeOn(condition *backend.PublishCondition, e *entry, window time.Duration) backend.PublishResult {
	e.key = condition.UniqueKey
	switch {
	case condition.Once:
		if !t.conditions.remember(e.uuid, e.published, window) {
			return backend.PublishResult{Outcome: backend.PublishExisted, ID: e.uuid}
		}
	case condition.Replace:
		e.debounce(condition.Debounce)
		if there := t.conditions.find(condition.UniqueKey, e.replaces); there != nil {
			replaced := there.uuid
			there.replace(e, condition.Debounce)
			t.makeVisible(there, there.visible)
			return backend.PublishResult{Outcome: backend.PublishReplaced, ID: replaced}
		}
	default:
		if there := t.conditions.find(condition.UniqueKey, nil); there != nil {
			return backend.PublishResult{Outcome: backend.PublishExisted, ID: there.uuid}
		}
	}
	e.debounce(condition.Debounce)
	t.add(e)
	return backend.PublishResult{Outcome: backend.PublishStored, ID: e.uuid}
}

func (t *topic) add(added ...*entry) {
	for _, e := range added {
		t.lastID++
		e.id = t.lastID
		t.byID[e.id] = e
		t.conditions.add(e)
		heap.Push(&t.entries, e)
	}
	t.signal()
}

func (t *topic) signal() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Changed implements [subscription.Store].
func (t *topic) Changed() <-chan struct{} {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// Paused implements [subscription.Pausable].
func (t *topic) Paused() (*backend.Paused, <-chan struct{}) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	return t.pause.current, t.pause.change()
}

// Removed implements [subscription.Removable].
func (t *topic) Removed() <-chan struct{} {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	if t.removed == nil {
		t.removed = make(chan struct{})
	}
	return t.removed
}

// pauseFor pauses the topic, unless a longer pause holds, and returns what holds then.
func (t *topic) pauseFor(name string, wanted backend.Pause) backend.Paused {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	return t.pause.begin(name, wanted, func(paused *backend.Paused) { t.resume(paused) })
}

// resume ends that pause, or with nil any, and reports whether it held.
func (t *topic) resume(only *backend.Paused) bool {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	if t.pause.current == nil || only != nil && t.pause.current != only {
		return false
	}
	t.pause.set(nil, nil)
	return true
}

func (t *topic) claim(settlements []subscription.Settlement, limit int, d time.Duration, r retention) subscription.Claim {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	claim := subscription.Claim{Missed: t.settle(settlements, r), Next: -1}
	now := time.Now()
	for len(claim.Leases) < limit && len(t.entries) > 0 && !t.entries[0].visible.After(now) {
		e := t.entries[0]
		e.number++
		e.delivered = true
		e.leased = t.nextLeaseTime(now)
		t.setVisible(e, now.Add(d))
		claim.Leases = append(claim.Leases, e.lease())
	}
	slices.SortFunc(claim.Leases, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	if len(t.entries) > 0 {
		claim.Next = max(t.entries[0].visible.Sub(now), 0)
	}
	return claim
}

// nextLeaseTime returns a time that no lease has been given before: with the number
// of the lease it is the fence that keeps a late settlement out.
func (t *topic) nextLeaseTime(now time.Time) time.Time {
	if !now.After(t.lastLease) {
		now = t.lastLease.Add(1)
	}
	t.lastLease = now
	return now
}

func (t *topic) settle(settlements []subscription.Settlement, r retention) (missed subscription.Missed) {
	now := time.Now()
	for _, s := range settlements {
		e, ok := t.byID[s.ID]
		if !ok {
			missed.Gone = append(missed.Gone, s.Token)
			continue
		}
		if !e.isLeasedBy(s.Token) {
			missed.Lost = append(missed.Lost, s.Token)
			continue
		}
		switch s.Action {
		case subscription.Ack:
			t.remove(e)
		case subscription.Nack:
			if !s.Bare {
				e.failures, e.done, e.unknown = s.Disposition.Fallback.Failures, s.Disposition.Fallback.Done, s.Disposition.Fallback.UnknownSince
			}
			if s.Disposition.Fallback.Uncounted {
				e.number--
			}
			if s.Disposition.Fallback.InPlace {
				t.makeVisible(e, e.published)
				continue
			}
			t.makeVisible(e, now.Add(s.Disposition.Fallback.Delay))
		case subscription.DeadLetter:
			t.remove(e)
			dead, in := e.deadLetter(s.Disposition.Target, now), t.parent.find(s.Disposition.Target.Topic)
			in.add(dead)
			r.limit(dead, in, s.Disposition.Target.Topic)
		case subscription.Release:
			e.number--
			t.makeVisible(e, e.published)
		}
	}
	return missed
}

func (t *topic) remove(e *entry) {
	heap.Remove(&t.entries, e.index)
	delete(t.byID, e.id)
	t.conditions.remove(e)
}

// expire deletes a dead letter that is still there. One that is leased or delayed stays until it is not.
func (t *topic) expire(dead *entry) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	switch left := time.Until(dead.visible); {
	case t.byID[dead.id] != dead: // it was redriven, acked or purged
	case left > 0:
		time.AfterFunc(left, func() { t.expire(dead) })
	default:
		t.remove(dead)
	}
}

// makeVisible ends a lease: the message becomes visible at the given time.
func (t *topic) makeVisible(e *entry, at time.Time) {
	t.setVisible(e, at)
	t.signal()
}

// moveTo makes e visible at another time; or at once if that is over, in its place if it is visible already.
func (t *topic) moveTo(at time.Time, e *entry) {
	if now := time.Now(); !at.After(now) {
		at = now
		if e.visible.Before(now) {
			at = e.visible
		}
	}
	t.makeVisible(e, at)
}

func (t *topic) setVisible(e *entry, at time.Time) {
	e.visible = at
	heap.Fix(&t.entries, e.index)
}

// Extend implements [subscription.Store].
func (t *topic) Extend(_ context.Context, tokens []subscription.Token, d time.Duration) (missed subscription.Missed, err error) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	missed.Now = time.Now()
	for _, token := range tokens {
		switch e, ok := t.byID[token.ID]; {
		case !ok:
			missed.Gone = append(missed.Gone, token)
		case e.isLeasedBy(token):
			t.setVisible(e, missed.Now.Add(d))
		default:
			missed.Lost = append(missed.Lost, token)
		}
	}
	return missed, nil
}

// publishOnce publishes p, unless this tick or a later one was published.
func (t *topic) publishOnce(tick *backend.ScheduleTick, p publication) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	result := t.parent.take(tick)
	if result.Outcome == backend.TickPublished {
		t.store(p)
	}
	tick.Report(result)
}
