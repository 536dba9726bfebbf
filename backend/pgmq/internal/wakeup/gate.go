package wakeup

import (
	"sync"
	"time"
)

// gate passes on what is heard of one queue: the first at once, and what follows during a pause together after it. The
// pauses are those of [Notifier], which has the same reasons; and any role that may log in can notify in a loop, and
// would have each process query for each notification.
type gate struct {
	pass func()

	mu     sync.Mutex
	closed bool          // during a pause
	again  bool          // something was heard during it
	pause  time.Duration // that is going on
}

// heard passes it on, now or after the pause.
func (g *gate) heard() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		g.again = true
		return
	}
	g.begin(notifyMin)
}

// begin passes on what was heard, and begins a pause.
func (g *gate) begin(pause time.Duration) {
	g.closed, g.again, g.pause = true, false, pause
	g.pass()
	time.AfterFunc(pause, g.end)
}

// end ends the pause.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.again {
		g.begin(min(2*g.pause, notifyMax))
		return
	}
	g.closed = false
}
