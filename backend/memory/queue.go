package memory

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// queue is messages of a topic, ordered by when they become visible: the topic's own, or the copies that one of its
// groups has. A leased message is one that becomes visible when its lease runs out.
type queue struct {
	parent    *topics
	topic     *topic
	group     string // "": it is the topic's own
	there     bool   // it gets what is published; before that, it can only be paused
	entries   entries
	byID      map[int64]*entry
	keys      keys
	lastID    int64
	lastLease time.Time
	pause     pause
	changed   signal // a message may have become visible
	removed   signal // a leased message was removed
}

var (
	_ subscription.Store     = consumedQueue{}
	_ subscription.Pausable  = consumedQueue{}
	_ subscription.Removable = consumedQueue{}
)

func newQueue(t *topic, group string) *queue {
	return &queue{parent: t.parent, topic: t, group: group, byID: map[int64]*entry{}, keys: keys{}}
}

// isPattern reports whether the messages are those of several topics.
func (q *queue) isPattern() bool { return q.topic.pattern }

// label is what a message that was found says of the queue.
func (q *queue) label() string { return GroupQueue(q.topic.name, q.group) }

// GroupQueue returns the Queue of a [backend.Found] that lies in the queue of a group: the topic, or the pattern, with the group behind
// it, as in `orders, group "billing"`. Without a group it is the topic.
func GroupQueue(topic, group string) string {
	if group == "" {
		return topic
	}
	return fmt.Sprintf("%s, group %q", topic, group)
}

// storeOn stores e if its condition, on a key, allows it; or returns the ID of the message that is there, or was replaced.
func (q *queue) storeOn(condition *backend.PublishCondition, e *entry) (there string, found bool) {
	e.debounce(condition.Debounce)
	accept := e.replaces
	if !condition.Replace {
		accept = func(other *entry) bool { return other.holdsKey(e.published) }
	}
	other := q.keys.find(e, accept)
	if other == nil {
		q.add(e)
		return "", false
	}
	there = other.uuid
	if condition.Replace {
		other.replace(e, condition.Debounce)
		q.makeVisible(other, other.visible)
	}
	return there, true
}

func (q *queue) add(e *entry) {
	q.lastID++
	e.id = q.lastID
	q.byID[e.id] = e
	q.keys.add(e)
	heap.Push(&q.entries, e)
	q.changed.send()
}

// Changed implements [subscription.Store].
func (q *queue) Changed() <-chan struct{} {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	return q.changed.next()
}

// Paused implements [subscription.Pausable].
func (q *queue) Paused() (*backend.Paused, <-chan struct{}) {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	paused := q.topic.own.pause.current
	if of := q.pause.current; of != nil && (paused == nil || of.Outlasts(*paused)) {
		paused = of
	}
	return paused, q.topic.pausesChanged.next()
}

// Removed implements [subscription.Removable].
func (q *queue) Removed() <-chan struct{} {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	return q.removed.next()
}

// pauseFor pauses the consumers of the queue, unless a longer pause holds, and returns what holds then.
func (q *queue) pauseFor(wanted backend.Pause) backend.Paused {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	paused := wanted.Since(time.Now())
	paused.Topic, paused.Group = q.topic.name, q.group
	if held := q.pause.current; held != nil && !paused.Outlasts(*held) {
		return *held
	}
	q.pause.set(&paused, func() { q.resume(&paused) })
	q.topic.pausesChanged.send()
	return paused
}

// resume ends that pause, or with nil any, and reports whether it held.
func (q *queue) resume(only *backend.Paused) bool {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	if q.pause.current == nil || only != nil && q.pause.current != only {
		return false
	}
	q.pause.set(nil, nil)
	q.topic.pausesChanged.send()
	return true
}

func (q *queue) claim(settlements []subscription.Settlement, limit int, d time.Duration, r retention) subscription.Claim {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	claim := subscription.Claim{Missed: q.settle(settlements, r), Next: -1}
	now := time.Now()
	for len(claim.Leases) < limit && len(q.entries) > 0 && !q.entries[0].visible.After(now) {
		e := q.entries[0]
		e.number++
		e.delivered = true
		e.leased = q.nextLeaseTime(now)
		q.setVisible(e, now.Add(d))
		claim.Leases = append(claim.Leases, e.lease(q.isPattern()))
	}
	slices.SortFunc(claim.Leases, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	if len(q.entries) > 0 {
		claim.Next = max(q.entries[0].visible.Sub(now), 0)
	}
	return claim
}

// nextLeaseTime returns a time that no lease has been given before: with the number
// of the lease it is the fence that keeps a late settlement out.
func (q *queue) nextLeaseTime(now time.Time) time.Time {
	if !now.After(q.lastLease) {
		now = q.lastLease.Add(1)
	}
	q.lastLease = now
	return now
}

func (q *queue) settle(settlements []subscription.Settlement, r retention) (missed subscription.Missed) {
	now := time.Now()
	for _, s := range settlements {
		e, ok := q.byID[s.ID]
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
			q.remove(e)
		case subscription.Nack:
			if !s.Bare {
				e.failures, e.done, e.unknown = s.Disposition.Fallback.Failures, s.Disposition.Fallback.Done, s.Disposition.Fallback.UnknownSince
			}
			if s.Disposition.Fallback.Uncounted {
				e.number--
			}
			if s.Disposition.Fallback.InPlace {
				q.makeVisible(e, e.published)
				continue
			}
			q.makeVisible(e, now.Add(s.Disposition.Fallback.Delay))
		case subscription.DeadLetter:
			q.remove(e)
			dead, in := e.deadLetter(q, s.Disposition.Target, now), q.parent.find(s.Disposition.Target.Topic).own
			in.there = true
			in.add(dead)
			r.limit(dead, in, s.Disposition.Target.Topic)
		case subscription.Release:
			e.number--
			q.makeVisible(e, e.published)
		}
	}
	return missed
}

func (q *queue) remove(e *entry) {
	heap.Remove(&q.entries, e.index)
	delete(q.byID, e.id)
	q.keys.remove(e)
}

// expire deletes a dead letter that is still there. One that is leased or delayed stays until it is not.
func (q *queue) expire(dead *entry) {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	switch left := time.Until(dead.visible); {
	case q.byID[dead.id] != dead: // it was redriven, acked or purged
	case left > 0:
		time.AfterFunc(left, func() { q.expire(dead) })
	default:
		q.remove(dead)
	}
}

// makeVisible ends a lease: the message becomes visible at the given time.
func (q *queue) makeVisible(e *entry, at time.Time) {
	q.setVisible(e, at)
	q.changed.send()
}

// moveTo makes e visible at another time; or at once if that is over, in its place if it is visible already.
func (q *queue) moveTo(at time.Time, e *entry) {
	if now := time.Now(); !at.After(now) {
		at = now
		if e.visible.Before(now) {
			at = e.visible
		}
	}
	q.makeVisible(e, at)
}

func (q *queue) setVisible(e *entry, at time.Time) {
	e.visible = at
	heap.Fix(&q.entries, e.index)
}

// Extend implements [subscription.Store].
func (q *queue) Extend(_ context.Context, tokens []subscription.Token, d time.Duration) (missed subscription.Missed, err error) {
	q.parent.mu.Lock()
	defer q.parent.mu.Unlock()
	missed.Now = time.Now()
	for _, token := range tokens {
		switch e, ok := q.byID[token.ID]; {
		case !ok:
			missed.Gone = append(missed.Gone, token)
		case e.isLeasedBy(token):
			q.setVisible(e, missed.Now.Add(d))
		default:
			missed.Lost = append(missed.Lost, token)
		}
	}
	return missed, nil
}
