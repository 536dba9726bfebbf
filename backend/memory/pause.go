package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend"
)

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

// begin has a pause hold that was wanted, unless a longer one holds, and returns what holds then.
func (p *pause) begin(topic string, wanted backend.Pause, ended func(*backend.Paused)) backend.Paused {
	now := time.Now()
	paused := wanted.Since(now)
	paused.Topic = topic
	if p.current != nil && !paused.Outlasts(*p.current) {
		return *p.current
	}
	p.set(&paused, func() { ended(&paused) })
	return paused
}

// change returns the channel that is closed at the next change.
func (p *pause) change() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}
