package ezqtest

import (
	"context"
	"time"
)

// forwarder is a backend that can let time pass for its messages.
type forwarder interface {
	Forward(ctx context.Context, d time.Duration) error
}

// Advance lets d pass, with all that comes to pass in it, and settles.
func (f *Flow) Advance(d time.Duration) {
	f.tb.Helper()
	if on, ok := f.queue.Backend.(forwarder); ok {
		f.forward(on, d)
		return
	}
	passed := time.NewTimer(d)
	defer passed.Stop()
	<-passed.C
	f.Settle()
}

// forward goes from one message that becomes visible to the next, since what follows
// from it may be due before the end.
func (f *Flow) forward(on forwarder, d time.Duration) {
	f.tb.Helper()
	f.Settle()
	for end := false; !end; {
		step := f.queue.untilNext()
		if end = step >= d; end {
			step = d
		}
		if err := on.Forward(f.ctx, step); err != nil {
			f.tb.Fatal("ezqtest:", err)
		}
		f.queue.forward(step)
		d -= step
		f.Settle()
	}
}

// untilNext is how long the next message has to wait, or very long if none has.
func (q *queue) untilNext() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := time.Duration(1<<63 - 1)
	for _, w := range q.waiting {
		if wait := time.Until(w.visible); wait > 0 && q.subscribed[w.topic] {
			next = min(next, wait)
		}
	}
	return next
}

// forward notes that d has passed for what waits.
func (q *queue) forward(d time.Duration) {
	q.change(func() {
		for _, w := range q.waiting {
			w.visible = w.visible.Add(-d)
		}
	})
}
