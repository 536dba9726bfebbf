package ezq

import (
	"fmt"
	"sync"
)

// Pause stops taking events of a topic, until [Router.Resume]. The backend gets
// back what it has fetched and what waits for its turn, also half a batch, as if it had
// not been delivered; handlers that run go on. On a backend that does not promise Drain the
// subscription stays, and holds what it has fetched.
//
// A control event on a paused topic has to wait like any other. Pause may be called
// before Run too, and again. It returns an error if the router has no handlers on the
// topic.
func (r *Router) Pause(topic string) error { return r.setPaused("Pause", topic, true) }

// Resume ends a [Router.Pause]. It does nothing if the topic is not paused. If handlers
// that began before the pause still run, events come again 5 seconds after it at the
// earliest: what has gone back has its place in the queue again by then, and the events
// of a key stay in order.
func (r *Router) Resume(topic string) error { return r.setPaused("Resume", topic, false) }

func (r *Router) setPaused(method, topic string, paused bool) error {
	tp := r.topics[topic]
	if tp == nil {
		return fmt.Errorf("ezq: %s: the router has no handlers on topic %q", method, topic)
	}
	tp.pause.set(paused)
	return nil
}

// pause is whether a topic is paused.
type pause struct {
	mu      sync.Mutex
	paused  bool
	changed chan struct{} // closed, and replaced, with each change
}

func newPause() *pause { return &pause{changed: make(chan struct{})} }

func (p *pause) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != paused {
		p.paused = paused
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *pause) state() (paused bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused, p.changed
}
