package ezq

import (
	"context"
	"sync"
	"time"
)

// stragglers is how long a batch that is not full waits, once nothing more is
// taken, for events that were taken before that and are on their way to it.
const stragglers = 10 * time.Millisecond

// collector makes batches of the events of one handler.
//
// Each event has a goroutine of its own, in which its middleware runs. The first
// one of a batch leads it: it waits until the batch has lingered long enough. The
// one that fills it runs it. All others have given up their slots and wait.
type collector[E any] struct {
	fn     func(ctx context.Context, events []E) error
	size   int
	linger time.Duration
	limit  chan struct{} // holds a token for each batch being handled; nil: no limit

	mu   sync.Mutex
	open *batch[E] // takes more
}

type batch[E any] struct {
	members []*member[E]
	sealed  chan struct{} // closed when it takes no more
	over    chan struct{} // closed when the outcomes are known
}

// member is an event in a batch.
type member[E any] struct {
	*handling
	event E
	ctx   context.Context
	begun bool  // fn was called with it
	err   error // what came of that
}

// handle puts m into a batch and waits for its outcome. It returns false if there
// was none, and the event is to go back.
func (c *collector[E]) handle(m *member[E]) bool {
	if m.seat == none && !m.comeBack() { // it is tried again, and gave its slot up before
		return false
	}
	b, first, full := c.join(m)
	switch {
	case full:
		c.run(b, m.handling)
	case first && c.lead(b, m):
		c.run(b, m.handling)
	case !first:
		m.stepAside()
	}
	<-b.over
	return m.begun
}

func (c *collector[E]) join(m *member[E]) (b *batch[E], first, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = &batch[E]{sealed: make(chan struct{}), over: make(chan struct{})}
	}
	b = c.open
	b.members = append(b.members, m)
	if len(b.members) == c.size {
		c.open = nil
		close(b.sealed)
		return b, false, true
	}
	return b, len(b.members) == 1, false
}

// seal makes b take no more. It returns false if somebody else has.
func (c *collector[E]) seal(b *batch[E]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != b {
		return false
	}
	c.open = nil
	close(b.sealed)
	return true
}

// lead waits until b is to be handled although it is not full, and returns true
// then, with a slot. It returns false if somebody else handles b, or nobody will.
func (c *collector[E]) lead(b *batch[E], m *member[E]) bool {
	m.stepAside()
	k := m.task
	wait := pauses{k.starting.Done(), b.sealed}
	if wait.pass(c.linger, k.taking.Done()) && (k.taking.Err() == nil || wait.pass(stragglers, nil)) &&
		k.slots.retake(k.starting.Done(), b.sealed) {
		m.sitDown()
		if c.seal(b) {
			return true
		}
		m.stepAside()
	}
	if k.starting.Err() != nil && c.seal(b) {
		close(b.over) // nobody has begun
	}
	return false
}

// pauses are those that either of two channels cuts short.
type pauses [2]<-chan struct{}

// pass waits for d, or until enough. It returns false if it was cut short.
func (p pauses) pass(d time.Duration, enough <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p[0]:
		return false
	case <-p[1]:
		return false
	case <-timer.C:
	case <-enough:
	}
	return !isClosed(p[0]) && !isClosed(p[1])
}

// run handles b, which is sealed, on the slot of h.
func (c *collector[E]) run(b *batch[E], h *handling) {
	defer close(b.over)
	if c.limit != nil {
		if !h.admit(c.limit, len(b.members)) {
			return
		}
		defer func() { <-c.limit }()
	}
	var live []*member[E]
	var events []E
	gathering := &handling{task: h.task, logger: h.logger, meta: Meta{Event: h.meta.Event, Topic: h.meta.Topic, Handler: h.meta.Handler}}
	for _, m := range b.members {
		if interrupted(m.ctx) {
			continue // somebody else may have it by now
		}
		m.begun = true
		live, events, gathering.batch = append(live, m), append(events, m.event), append(gathering.batch, m.handling)
	}
	if len(live) == 0 {
		return
	}
	err := errGoexit
	defer func() {
		for i, outcome := range outcomes(len(live), err) {
			live[i].err = outcome
		}
	}()
	err = c.call(context.WithValue(h.task.working, metaKey{}, gathering), events)
}

func (c *collector[E]) call(ctx context.Context, events []E) (err error) {
	defer caught(&err)
	return c.fn(ctx, events)
}
