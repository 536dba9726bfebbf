package memory

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// topic is the queues of a topic, or those of the groups that take a pattern. The mutex of its topics guards it.
type topic struct {
	parent        *topics
	name          string
	pattern       bool              // the name is one, and the topic's own queue never there
	own           *queue            // once it is there, it gets every message
	groups        map[string]*queue // by their names
	bound         []*queue          // what gets a copy of every message: of its groups, and of those that take a pattern which it matches
	ids           rememberedIDs
	pausesChanged signal
}

func newTopic(parent *topics, name string) *topic {
	t := &topic{parent: parent, name: name, pattern: backend.IsPattern(name), ids: newRememberedIDs()}
	t.own = newQueue(t, "")
	return t
}

// queueOf returns the topic's own queue, or that of a group.
func (t *topic) queueOf(group string) *queue {
	if group == "" {
		return t.own
	}
	q, ok := t.groups[group]
	if !ok {
		if t.groups == nil {
			t.groups = map[string]*queue{}
		}
		q = newQueue(t, group)
		t.groups[group] = q
	}
	return q
}

// queues returns the topic's own queue and those of its groups, in the order of their names.
func (t *topic) queues() []*queue {
	return append([]*queue{t.own}, slices.SortedFunc(maps.Values(t.groups), func(a, b *queue) int { return cmp.Compare(a.group, b.group) })...)
}

// bindIfMatched has the queue of a group that takes a pattern get what is published, if the topic matches. Another pattern
// does not.
func (t *topic) bindIfMatched(q *queue) {
	if !t.pattern && backend.MatchesPattern(q.topic.name, t.name) {
		t.bound = append(t.bound, q)
	}
}

// publication is what one call publishes.
type publication struct {
	entries    []*entry
	conditions []*backend.PublishCondition // one for each entry, which may be nil; or nil if none has one
	window     time.Duration               // for which the ID of what is stored once is remembered
}

// store stores those of the entries that their conditions allow.
func (t *topic) store(p publication) {
	if len(t.bound) == 0 && len(p.entries) > 0 {
		t.own.there = true
	}
	for i, e := range p.entries {
		if p.conditions == nil || p.conditions[i] == nil {
			t.add(e)
			continue
		}
		p.conditions[i].Report(t.storeOn(p.conditions[i], e, p.window))
	}
}

// add puts a message into each queue that gets it.
func (t *topic) add(e *entry) {
	for _, q := range t.bound {
		q.add(e.copyFor(q, t.name))
	}
	if t.own.there {
		t.own.add(e)
	}
}

// storeOn stores e in each queue where condition allows it. Each has keys of its own, and an ID counts for all.
func (t *topic) storeOn(condition *backend.PublishCondition, e *entry, window time.Duration) backend.PublishResult {
	if condition.Once {
		if !t.ids.remember(e.uuid, e.published, window) {
			return backend.PublishResult{Outcome: backend.PublishExisted, ID: e.uuid}
		}
		t.add(e)
		return backend.PublishResult{Outcome: backend.PublishStored, ID: e.uuid}
	}
	e.key = condition.UniqueKey
	var there []string // the IDs of messages that were there
	queues := 0
	for _, q := range t.bound {
		queues++
		if id, found := q.storeOn(condition, e.copyFor(q, t.name)); found {
			there = append(there, id)
		}
	}
	if t.own.there {
		queues++
		if id, found := t.own.storeOn(condition, e); found {
			there = append(there, id)
		}
	}
	switch {
	case len(there) == 0, !condition.Replace && len(there) < queues:
		return backend.PublishResult{Outcome: backend.PublishStored, ID: e.uuid}
	case condition.Replace:
		return backend.PublishResult{Outcome: backend.PublishReplaced, ID: slices.Min(there)}
	default:
		return backend.PublishResult{Outcome: backend.PublishExisted, ID: slices.Min(there)}
	}
}
