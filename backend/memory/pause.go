package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

var _ subscription.Pausable = (*topic)(nil)

// pause is that of a topic. The mutex of the topics guards it.
type pause struct {
	current *backend.Paused // nil: the topic is not paused
	changed chan struct{}   // closed at a change; nil if no subscription waits for one
	end     *time.Timer     // of current; nil if it has no end
}

// set replaces what holds. A pause that has an end gets ended called then.
func (p *pause) set(paused *backend.Paused, ended func()) {
	if p.end != nil {
		p.end.Stop()
		p.end = nil
	}
	p.current = paused
	if paused != nil && !paused.Until.IsZero() {
		p.end = time.AfterFunc(time.Until(paused.Until), ended)
	}
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// pauseFor pauses the topic, unless a longer pause holds, and returns what holds then.
func (t *topic) pauseFor(name string, wanted backend.Pause) backend.Paused {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	now := time.Now()
	paused := backend.Paused{Topic: name, By: wanted.By, Reason: wanted.Reason, Since: now}
	if wanted.For > 0 {
		paused.Until = now.Add(wanted.For)
	}
	if held := t.pause.current; held != nil && !paused.Outlasts(*held) {
		return *held
	}
	t.pause.set(&paused, func() { t.endPause(&paused) })
	return paused
}

// endPause ends a pause whose time is over, unless it has ended before.
func (t *topic) endPause(paused *backend.Paused) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	if t.pause.current == paused {
		t.pause.set(nil, nil)
	}
}

func (t *topic) resume() (resumed bool) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	if t.pause.current == nil {
		return false
	}
	t.pause.set(nil, nil)
	return true
}

// Paused implements [subscription.Pausable].
func (t *topic) Paused() (*backend.Paused, <-chan struct{}) {
	t.parent.mu.Lock()
	defer t.parent.mu.Unlock()
	if t.pause.changed == nil {
		t.pause.changed = make(chan struct{})
	}
	return t.pause.current, t.pause.changed
}
