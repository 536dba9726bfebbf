package memory

import (
	"slices"
	"time"
)

// rememberedIDs are those of messages of a topic that are stored once. The mutex of its topics guards them.
type rememberedIDs struct {
	until map[string]time.Time
	order []string // as they came
}

func newRememberedIDs() rememberedIDs { return rememberedIDs{until: map[string]time.Time{}} }

// remember reports whether id is new within its window, which begins now if it is.
func (r *rememberedIDs) remember(id string, now time.Time, window time.Duration) bool {
	r.forget(now)
	if until, ok := r.until[id]; ok && now.Before(until) {
		return false
	}
	if _, ok := r.until[id]; !ok {
		r.order = append(r.order, id)
	}
	r.until[id] = now.Add(window)
	return true
}

// forget removes the IDs whose windows have ended, the oldest first. One whose window is
// longer than those of later ones keeps these for as long.
func (r *rememberedIDs) forget(now time.Time) {
	for len(r.order) > 0 && !now.Before(r.until[r.order[0]]) {
		delete(r.until, r.order[0])
		r.order = r.order[1:]
	}
}

// key is that of a condition. Of two topics that a group takes by one pattern, each has keys of its own.
type key struct{ publishedTo, text string }

// keys are the entries of a queue that have one. The mutex of its topics guards them.
type keys map[key][]*entry

func (ks keys) add(e *entry) {
	if e.key != "" {
		ks[e.uniqueKey()] = append(ks[e.uniqueKey()], e)
	}
}

func (ks keys) remove(e *entry) {
	if e.key == "" {
		return
	}
	k := e.uniqueKey()
	ks[k] = slices.DeleteFunc(ks[k], func(other *entry) bool { return other == e })
	if len(ks[k]) == 0 {
		delete(ks, k)
	}
}

// find returns the newest entry with the key of e that accept takes, or nil.
func (ks keys) find(e *entry, accept func(*entry) bool) *entry {
	for _, other := range slices.Backward(ks[e.uniqueKey()]) {
		if accept(other) {
			return other
		}
	}
	return nil
}
