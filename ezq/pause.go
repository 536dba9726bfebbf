package ezq

import "sync"

// pause tells whether a topic is paused.
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
