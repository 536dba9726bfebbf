package subscription

import (
	"sync"
	"time"
)

// pending is the outcomes that are not stored yet.
type pending struct {
	added chan struct{} // holds a token when there may be something to store
	turn  chan struct{} // holds a token while nothing is being stored

	mu    sync.Mutex
	queue []Settlement // in the order in which they came, or came back
	parts int          // the last one's number
	why   error        // of those that the store refuses for now
}

// attempt is how an outcome is sent to the store the next time.
type attempt struct {
	due   time.Time     // not before that
	pause time.Duration // since the last time; zero: it was not put off
	part  int           // only with those of the same part; zero: with any that are of none
}

// refusedPart is the part of the outcomes that the store refuses for now.
const refusedPart = -1

// busyMin and busyMax bound the pause before an outcome is tried again whose message was
// locked.
const (
	busyMin = 10 * time.Millisecond
	busyMax = time.Second
)

func newPending() *pending {
	p := &pending{added: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	p.end()
	return p
}

// begin waits until nothing that was taken is under way, and keeps others from taking
// anything until end. A claim that carries outcomes does without, unless a hold was lost.
func (p *pending) begin() { <-p.turn }

func (p *pending) end() { p.turn <- struct{}{} }

// add takes outcomes: new ones, and those that could not be stored.
func (p *pending) add(outcomes ...Settlement) {
	if len(outcomes) == 0 {
		return
	}
	p.mu.Lock()
	p.queue = append(p.queue, outcomes...)
	p.mu.Unlock()
	signal(p.added)
}

// apart takes outcomes that are sent together, and without others.
func (p *pending) apart(outcomes []Settlement) {
	p.mu.Lock()
	p.parts++
	part := p.parts
	p.mu.Unlock()
	for i := range outcomes {
		outcomes[i].part = part
	}
	p.add(outcomes...)
}

// postpone takes outcomes that are tried again after a pause, which grows each time. All
// that wait for the same reason are tried together.
func (p *pending) postpone(outcomes []Settlement, pause backoff) {
	if len(outcomes) == 0 {
		return
	}
	for _, outcome := range outcomes {
		pause.last = max(pause.last, outcome.pause)
	}
	next := attempt{part: outcomes[0].part, due: time.Now().Add(pause.next())}
	next.pause = pause.last
	next = p.waiting(next)
	for i := range outcomes {
		outcomes[i].attempt = next
	}
	p.add(outcomes...)
}

// postponeRefused takes outcomes that the store refuses for now.
func (p *pending) postponeRefused(outcomes []Settlement, why error) {
	p.mu.Lock()
	p.why = why
	p.mu.Unlock()
	for i := range outcomes {
		outcomes[i].part = refusedPart
	}
	p.postpone(outcomes, backoff{min: refusedMin, max: refusedMax})
}

// refusal returns why the store has refused an outcome last.
func (p *pending) refusal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

// waiting returns the attempt that others of the same part wait for, if there are any.
func (p *pending) waiting(otherwise attempt) attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i := range p.queue {
		if s := &p.queue[i]; s.part == otherwise.part && !s.isDue(now) {
			return s.attempt
		}
	}
	return otherwise
}

// take removes up to n outcomes that are due, or with early also those that are not yet.
func (p *pending) take(n int, early bool) []Settlement {
	now := time.Now()
	return p.remove(n, func(s *Settlement) bool { return s.part == 0 && (early || s.isDue(now)) })
}

// takePart removes the part that came last: what the store refuses is found sooner in the
// halves of one batch than in all batches at a time.
func (p *pending) takePart() []Settlement {
	last := p.lastPart()
	if last == 0 {
		return nil
	}
	return p.remove(settleBatch, func(s *Settlement) bool { return s.part == last })
}

// lastPart returns the number of the part that came last, or 0 if there is none.
func (p *pending) lastPart() (last int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.queue {
		last = max(last, p.queue[i].part)
	}
	return last
}

// takeRefused removes outcomes that the store has refused for the time being, and that are due. The
// parts come first, of which most can be stored.
func (p *pending) takeRefused() []Settlement {
	if p.lastPart() > 0 {
		return nil
	}
	now := time.Now()
	return p.remove(settleBatch, func(s *Settlement) bool { return s.part == refusedPart && s.isDue(now) })
}

func (a *attempt) isDue(now time.Time) bool { return !now.Before(a.due) }

// remove removes up to n of the outcomes that qualify, oldest first: those that can be
// sent together with the one that has been put off least. What was never put off does not
// wait for what others have locked.
func (p *pending) remove(n int, qualifies func(*Settlement) bool) (batch []Settlement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var first *Settlement
	for i := range p.queue {
		if s := &p.queue[i]; qualifies(s) && (first == nil || s.pause < first.pause) {
			first = s
		}
		if first != nil && first.pause == 0 {
			break
		}
	}
	if first == nil {
		return nil
	}
	batch = make([]Settlement, 0, min(n, len(p.queue)))
	topic, part, rest := first.topic(), first.part, p.queue[:0]
	for _, s := range p.queue {
		if len(batch) < n && s.part == part && s.topic() == topic && qualifies(&s) {
			s.part = 0
			batch = append(batch, s)
		} else {
			rest = append(rest, s)
		}
	}
	clear(p.queue[len(rest):])
	p.queue = rest
	return batch
}

// topic returns where a dead letter goes. Those for one topic are stored together.
func (s *Settlement) topic() string {
	if s.Action != DeadLetter {
		return ""
	}
	return s.Verdict.Letter.Topic
}

// clear forgets all.
func (p *pending) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = nil
}

// len returns how many outcomes are not stored.
func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

// messages returns of how many messages outcomes are not stored: there are several of one that
// was delivered again meanwhile.
func (p *pending) messages() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := map[int64]struct{}{}
	for i := range p.queue {
		ids[p.queue[i].ID] = struct{}{}
	}
	return len(ids)
}

// untilDue returns how long until there is something to send, or -1 if there is nothing.
func (p *pending) untilDue() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := time.Duration(-1)
	for i := range p.queue {
		until := max(time.Until(p.queue[i].due), 0)
		if wait < 0 || until < wait {
			wait = until
		}
		if wait == 0 {
			break
		}
	}
	return wait
}

// exceeds reports whether more is to be stored than one call carries, whether it is due or
// not. What the store refuses for now does not count: acks, whose messages are leased, and
// what has no ack.
func (p *pending) exceeds(call int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for i := range p.queue {
		switch s := &p.queue[i]; {
		case s.part > 0:
			return true
		case s.part == 0:
			n++
		}
	}
	return n > call
}

// signal leaves a token in c, which has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
