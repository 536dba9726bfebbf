package ezq

import (
	"errors"
	"sync"
)

// keyHeader carries the key of an event. It is the header by which PGMQ's own
// functions for grouped reading tell groups apart.
const keyHeader = "x-pgmq-group"

// Key names what events are about, such as an order or a customer. A router
// handles the events of one topic that have the same key one at a time, in the
// order in which the backend delivers them; events with other keys, and those
// without one, go on beside them. The key is not empty, and UTF-8 without NUL.
//
// An event that fails comes back later, and those behind it do not wait for it.
// Nor do other processes: to keep the order across them, run one. No two events of a
// key are in one batch of [HandleBatch].
//
// Events that wait for their key are held by the router, up to ten times
// Config.Concurrency; beyond that it takes no more of the topic until some have
// had their turn. Another process could only handle them beside the one that they wait
// for. When the router stops, or the topic is paused, they go back to their
// places in the queue, as if they had not been delivered. An [EndEvent] gives nothing
// back: they came before it, and are handled.
func Key(key string) PublishOption {
	return publishOption(func(o *outgoing) error {
		if key == "" {
			return errors.New("the key is empty: leave Key out")
		}
		return Header(keyHeader, key).applyToPublish(o)
	})
}

// keys knows for each key of a topic the last event that was taken.
type keys struct {
	mu   sync.Mutex
	last map[string]*turn
}

// turn is the place of one event among those with its key.
type turn struct {
	keys   *keys
	key    string
	before <-chan struct{} // closed when it is this one's turn; nil if it was at once
	over   chan struct{}
	outer  *turn // ends with this one; nil if there is none
}

// enter gives the next turn of key. Without a key it is nil.
func (ks *keys) enter(key string) *turn {
	if key == "" {
		return nil
	}
	t := &turn{keys: ks, key: key, over: make(chan struct{})}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.last == nil {
		ks.last = map[string]*turn{}
	}
	if last := ks.last[key]; last != nil {
		t.before = last.over
	}
	ks.last[key] = t
	return t
}

// after gives the next turn of the key of outer, which ends with it.
func (ks *keys) after(outer *turn) *turn {
	if outer == nil {
		return nil
	}
	t := ks.enter(outer.key)
	t.outer = outer
	return t
}

func (t *turn) come() bool { return t == nil || t.before == nil || isClosed(t.before) }

// end lets the next event of the key have its turn. One that ends without having
// had its own keeps its place: what is behind it must wait as long as it would have.
// One that has ended stays so.
func (t *turn) end() {
	if t == nil || isClosed(t.over) {
		return
	}
	if t.come() {
		t.finish()
		return
	}
	go func() {
		<-t.before
		t.finish()
	}()
}

func (t *turn) finish() {
	t.keys.mu.Lock()
	defer t.keys.mu.Unlock()
	if t.keys.last[t.key] == t {
		delete(t.keys.last, t.key)
	}
	close(t.over)
	t.outer.end()
}
