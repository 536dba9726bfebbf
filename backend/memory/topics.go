package memory

import (
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// topics are the topics of a Broker, each there as soon as it is named, and the patterns that groups take. One
// mutex guards them all, so that a message moves from one queue to another in one
// step.
type topics struct {
	mu        sync.Mutex
	byName    map[string]*topic
	patterned []*queue             // of the groups that take a pattern
	ticks     map[string]*schedule // by name
}

func newTopics() *topics {
	return &topics{byName: map[string]*topic{}, ticks: map[string]*schedule{}}
}

// get returns the queue of a topic, or of one of its groups.
func (ts *topics) get(name, group string) *queue {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.find(name).queueOf(group)
}

func (ts *topics) find(name string) *topic {
	t, ok := ts.byName[name]
	if !ok {
		t = newTopic(ts, name)
		for _, q := range ts.patterned {
			t.bindIfMatched(q)
		}
		ts.byName[name] = t
	}
	return t
}

// subscribe returns the queue of the consumers of a topic without a group. To declare it is to have it whatever the topic has.
func (ts *topics) subscribe(name string, declare bool) (*queue, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.find(name)
	if len(t.bound) > 0 && !t.own.there && !declare {
		return nil, errHasGroups
	}
	t.own.there = true
	return t.own, nil
}

// join returns the queue of a group, which gets a copy of each message from now on. It returns how many messages the group has
// missed that are in the topic's own queue, or -1 if it was there before, or there is no such queue.
func (ts *topics) join(name, group string) (q *queue, missed int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.find(name)
	q = t.queueOf(group)
	if q.there {
		return q, -1
	}
	q.there = true
	t.bound = append(t.bound, q)
	if t.pattern {
		ts.patterned = append(ts.patterned, q)
		for _, other := range ts.byName {
			other.bindIfMatched(q)
		}
	}
	if !t.own.there {
		return q, -1
	}
	return q, len(t.own.entries)
}

// publish stores those of the messages that their conditions allow.
func (ts *topics) publish(name string, p publication) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.find(name).store(p)
}

// publishOnce publishes p, unless this tick or a later one was published.
func (ts *topics) publishOnce(tick *backend.ScheduleTick, name string, p publication) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	result := ts.take(tick)
	if result.Outcome == backend.TickPublished {
		ts.find(name).store(p)
	}
	tick.Report(result)
}

// pauses returns the pauses of a topic that hold, of all its groups or of one.
func (ts *topics) pauses(name, group string) (all []backend.Paused) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.byName[name]
	if !ok {
		return nil
	}
	for _, q := range t.queues() {
		if held := q.pause.current; held != nil && (group == "" || q.group == "" || q.group == group) {
			all = append(all, *held)
		}
	}
	return all
}

// search returns up to limit of the messages of a topic, and of its dead letters, that s chooses.
func (ts *topics) search(name string, s selector, limit int) (found []backend.Found) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	places := ts.places(name)
	if dead, ok := ts.byName[name+backend.DeadLetterSuffix]; ok {
		places = append(places, place{queue: dead.own, at: backend.InDeadLetters})
	}
	for _, p := range places {
		for _, e := range s.find(p, limit-len(found)) {
			found = append(found, e.found(p, name, now))
		}
	}
	return found
}

// place is a queue in which there are messages of a topic.
type place struct {
	*queue
	at   backend.Place
	says string // which of its messages are of the topic: those that say so; "" for all
}

// places returns the queues that have messages of a topic: its own, those of its groups, and those of the groups that take it by a
// pattern.
func (ts *topics) places(name string) (places []place) {
	t, ok := ts.byName[name]
	if !ok {
		return nil
	}
	for _, q := range t.queues() {
		p := place{queue: q}
		if q != t.own {
			p.at = backend.InGroup
		}
		places = append(places, p)
	}
	for _, q := range t.bound {
		if q.topic != t {
			places = append(places, place{q, backend.InGroup, name})
		}
	}
	return places
}

// cancel deletes the messages of a topic that s chooses and that wait, and counts the others.
func (ts *topics) cancel(name string, s selector) (removed, busy int) {
	return ts.change(name, s, (*queue).remove)
}

// reschedule moves the messages of a topic that s chooses and that wait, and counts the others.
func (ts *topics) reschedule(name string, s selector, at time.Time) (moved, busy int) {
	return ts.change(name, s, func(q *queue, e *entry) { q.moveTo(at, e) })
}

// change does something with the messages of a topic that s chooses and that wait, and counts the others.
func (ts *topics) change(name string, s selector, do func(*queue, *entry)) (done, busy int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	for _, p := range ts.places(name) {
		for _, e := range s.all(p) {
			if e.isBusy(now) {
				busy++
				continue
			}
			do(p.queue, e)
			done++
		}
	}
	return done, busy
}

// cancelRunning removes the messages of a topic that s chooses, those that are leased too.
func (ts *topics) cancelRunning(name string, s selector) (cancelled backend.Cancelled) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	for _, p := range ts.places(name) {
		stopped := 0
		for _, e := range s.all(p) {
			if e.isBusy(now) {
				stopped++
			} else {
				cancelled.Removed++
			}
			p.remove(e)
		}
		cancelled.Stopped += stopped
		if stopped > 0 {
			p.removed.send()
		}
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
		if s.passes(tick.At, result.Now) {
			result.Outcome = backend.TickPaused
		}
	}
	result.Last = s.last
	return result
}
