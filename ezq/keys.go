package ezq

import "sync"

// keyedLock lets one event of each key through at a time, in the order in which they
// got their tickets.
type keyedLock struct {
	mu   sync.Mutex
	last map[string]*keyTicket
}

// keyTicket is the place of one event among those with its key. A nil ticket is that
// of an event without a key.
type keyTicket struct {
	lock     *keyedLock
	key      string
	previous <-chan struct{} // closed when it is this one's turn; nil if it was at once
	done     chan struct{}
	outer    *keyTicket // ends with this one; nil if there is none
}

// ticket returns the next ticket of key, or nil without a key.
func (l *keyedLock) ticket(key string) *keyTicket {
	if key == "" {
		return nil
	}
	t := &keyTicket{lock: l, key: key, done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = map[string]*keyTicket{}
	}
	if last := l.last[key]; last != nil {
		t.previous = last.done
	}
	l.last[key] = t
	return t
}

// ticketWithin returns the next ticket of the key of outer, which ends with it.
func (l *keyedLock) ticketWithin(outer *keyTicket) *keyTicket {
	if outer == nil {
		return nil
	}
	t := l.ticket(outer.key)
	t.outer = outer
	return t
}

// ready reports whether it is the turn of t.
func (t *keyTicket) ready() bool { return t == nil || t.previous == nil || isClosed(t.previous) }

// end lets the next event of the key have its turn. A ticket that ends before its own
// turn keeps its place: the tickets behind it wait as long as they would have. Ending
// a ticket again does nothing.
func (t *keyTicket) end() {
	if t == nil || isClosed(t.done) {
		return
	}
	if t.ready() {
		t.finish()
		return
	}
	go func() {
		<-t.previous
		t.finish()
	}()
}

func (t *keyTicket) finish() {
	t.lock.mu.Lock()
	defer t.lock.mu.Unlock()
	if t.lock.last[t.key] == t {
		delete(t.lock.last, t.key)
	}
	close(t.done)
	t.outer.end()
}
