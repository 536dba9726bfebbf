package memory

import (
	"time"

	"github.com/ezq-go/ezq/backend"
)

// publishOnce publishes entries if nobody has done so for this tick or a later one.
func (t *topic) publishOnce(tick *backend.Tick, entries []*entry) {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	result := backend.TickResult{Now: time.Now()}
	last, known := t.all.ticks[tick.Schedule]
	if !known {
		last = result.Now
		t.all.ticks[tick.Schedule] = last
	}
	switch {
	case tick.At.After(result.Now):
		result.Outcome = backend.TickEarly
	case !tick.At.After(last):
		result.Outcome = backend.TickTaken
	default:
		last = tick.At
		t.all.ticks[tick.Schedule] = last
		t.add(entries...)
	}
	result.Last = last
	tick.Report(result)
}
