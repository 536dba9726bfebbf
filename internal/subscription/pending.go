package subscription

import (
	"sync"
	"time"
)

// pending is the outcomes that are not stored yet.
type pending struct {
	added chan struct{} // holds a token when there may be something to store
	turn  chan struct{} // holds a token while nobody stores anything

	mu    sync.Mutex
	queue []Settlement
	parts [][]Settlement // of batches that the store has refused
	busy  []Settlement   // of messages that others had locked
	again time.Time      // when to try those again
	tries backoff
}

// busyMin and busyMax bound the pause before an outcome is tried again whose message was
// locked.
const (
	busyMin = 10 * time.Millisecond
	busyMax = time.Second

	// busyTry is how long such a try may take, where it waits for a locked table.
	busyTry = 2 * time.Second
)

func newPending() *pending {
	p := &pending{added: make(chan struct{}, 1), turn: make(chan struct{}, 1), tries: backoff{min: busyMin, max: busyMax}}
	p.end()
	return p
}

// begin waits until nothing that was taken is under way, and keeps others from taking
// anything until end. A claim that carries outcomes does without, unless a hold was lost.
func (p *pending) begin() { <-p.turn }

func (p *pending) end() { p.turn <- struct{}{} }

func (p *pending) add(s Settlement) {
	p.mu.Lock()
	p.queue = append(p.queue, s)
	p.mu.Unlock()
	signal(p.added)
}

// take removes up to n outcomes, oldest first, and then those that are to be tried again
// now. With early those come first, and sooner than that. Dead letters for one topic go
// together.
func (p *pending) take(n int, early bool) (batch []Settlement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case early:
		p.queue, p.busy = append(p.busy, p.queue...), nil
	case p.isAgain(): // behind the others, which nothing may keep waiting
		p.queue, p.busy = append(p.queue, p.busy...), nil
	}
	if len(p.queue) == 0 {
		return nil
	}
	batch = make([]Settlement, 0, min(n, len(p.queue)))
	topic, rest := p.queue[0].topic(), p.queue[:0]
	for _, outcome := range p.queue {
		if len(batch) < n && outcome.topic() == topic {
			batch = append(batch, outcome)
		} else {
			rest = append(rest, outcome)
		}
	}
	clear(p.queue[len(rest):])
	if p.queue = rest; len(rest) > 0 {
		signal(p.added)
	}
	return batch
}

// topic returns where a dead letter goes.
func (s *Settlement) topic() string {
	if s.Action != DeadLetter {
		return ""
	}
	return s.Verdict.Letter.Topic
}

// apart has outcomes sent in calls of their own.
func (p *pending) apart(parts ...[]Settlement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts = append(p.parts, parts...)
	signal(p.added)
}

// part removes the first of them.
func (p *pending) part() (part []Settlement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.parts) > 0 {
		part, p.parts = p.parts[0], p.parts[1:]
	}
	if len(p.parts) > 0 {
		signal(p.added)
	}
	return part
}

// clear forgets all.
func (p *pending) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue, p.parts, p.busy = nil, nil, nil
}

// postpone keeps those of batch that are to be tried again, for a moment, and returns the
// others.
func (p *pending) postpone(batch []Settlement, missed Missed) (done []Settlement) {
	if len(missed.Busy) == 0 {
		return batch
	}
	again := missed.again()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.busy) == 0 || p.isAgain() {
		if time.Since(p.again) > busyMax+busyTry {
			p.tries.reset() // those of last time are stored
		}
		p.again = time.Now().Add(p.tries.next())
	}
	for _, outcome := range batch {
		if again[outcome.Token] {
			p.busy = append(p.busy, outcome)
		} else {
			done = append(done, outcome)
		}
	}
	signal(p.added) // flush has to know when
	return done
}

// untilAgain returns how long until there is something to try again, or -1 if there is not.
func (p *pending) untilAgain() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.busy) == 0 {
		return -1
	}
	return max(time.Until(p.again), 0)
}

// isAgain reports whether there is something to try again now.
func (p *pending) isAgain() bool { return len(p.busy) > 0 && !time.Now().Before(p.again) }

// restore puts back what could not be stored, behind the rest: dead letters for another
// topic may be stored meanwhile.
func (p *pending) restore(batch []Settlement) {
	if len(batch) == 0 {
		return
	}
	p.mu.Lock()
	p.queue = append(p.queue, batch...)
	p.mu.Unlock()
	signal(p.added)
}

// len returns how many outcomes are not stored.
func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.queue) + len(p.busy)
	for _, part := range p.parts {
		n += len(part)
	}
	return n
}

// exceeds reports whether more can be tried now than one call carries.
func (p *pending) exceeds(call int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.queue)
	if p.isAgain() {
		n += len(p.busy)
	}
	return n > call || len(p.parts) > 0
}

// signal leaves a token in c, which has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
