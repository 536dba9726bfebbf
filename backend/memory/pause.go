package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend"
)

// pause is that of the consumers of a queue; that of a topic's own queue is also for the consumers of its groups. The mutex
// of the topics guards it.
type pause struct {
	current *backend.Paused // nil: they are not paused
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
}
