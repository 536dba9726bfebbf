package memory

import (
	"slices"
	"time"
)

// conditions is what a topic remembers to decide on which condition a message is stored. The
// mutex of its topics guards it.
type conditions struct {
	onceUntil map[string]time.Time // by the IDs of messages that are stored once
	onceOrder []string             // of those, as they came
	byKey     map[string][]*entry  // of those that are stored
}

func newConditions() conditions {
	return conditions{onceUntil: map[string]time.Time{}, byKey: map[string][]*entry{}}
}

// remember reports whether id is new within its window, which begins now if it is.
func (c *conditions) remember(id string, now time.Time, window time.Duration) bool {
	c.forget(now)
	if until, ok := c.onceUntil[id]; ok && now.Before(until) {
		return false
	}
	if _, ok := c.onceUntil[id]; !ok {
		c.onceOrder = append(c.onceOrder, id)
	}
	c.onceUntil[id] = now.Add(window)
	return true
}

// forget removes the IDs whose windows have ended, the oldest first. One whose window is
// longer than those of later ones keeps these for as long.
func (c *conditions) forget(now time.Time) {
	for len(c.onceOrder) > 0 && !now.Before(c.onceUntil[c.onceOrder[0]]) {
		delete(c.onceUntil, c.onceOrder[0])
		c.onceOrder = c.onceOrder[1:]
	}
}

func (c *conditions) add(e *entry) {
	if e.key != "" {
		c.byKey[e.key] = append(c.byKey[e.key], e)
	}
}

func (c *conditions) remove(e *entry) {
	if e.key == "" {
		return
	}
	c.byKey[e.key] = slices.DeleteFunc(c.byKey[e.key], func(other *entry) bool { return other == e })
	if len(c.byKey[e.key]) == 0 {
		delete(c.byKey, e.key)
	}
}

// find returns the newest entry with the key that accept takes, which takes all if it is nil; or nil.
func (c *conditions) find(key string, accept func(*entry) bool) *entry {
	for _, e := range slices.Backward(c.byKey[key]) {
		if accept == nil || accept(e) {
			return e
		}
	}
	return nil
}
