// Package ledger keeps account of a queue under test: what became of every publish, every delivery
// before its ack, and what went wrong meanwhile. Its report says what was lost, what was delivered
// and should not have been, and why something was delivered more than once.
package ledger

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Outcome is how a publish ended, as its publisher was told.
type Outcome byte

// The outcomes. A message that was never published has none.
const (
	none     Outcome = iota
	Stored           // Publish returned nil
	Rejected         // certainly not stored
	Unknown          // stored or not: unknown
)

// Cause is why a message was delivered again.
type Cause string

// The causes that a consumer tells of. Others are the names of faults.
const (
	Nacked    Cause = "nacked"     // its handler nacked it
	LeaseLost Cause = "lease lost" // its handler took longer than its lease lasted
)

// Ledger is empty when it is new. Its methods may be called concurrently.
type Ledger struct {
	mu       sync.Mutex
	messages map[string]*history
	faults   []fault
	removals []*removal
	last     time.Time // of the deliveries
	gap      time.Duration
	count    int
}

// history is one message.
type history struct {
	outcome    Outcome
	since      time.Time // when it was first heard of by its publisher
	due        time.Time // if it is delayed
	removed    bool      // on its own
	deliveries []delivery
}

type delivery struct {
	at       time.Time
	consumer string
	cause    Cause // of the next delivery, if the consumer has told
}

// fault is something that happened, and may have made a consumer lose what it had. It may concern
// just one consumer, or some messages.
type fault struct {
	name       string
	consumer   string
	appliesTo  func(id string) bool // nil: all messages
	from, till time.Time
}

// removal is a time in which everything that was in the queue may have been removed from it.
type removal struct{ till time.Time }

// New returns an empty ledger.
func New() *Ledger { return &Ledger{messages: map[string]*history{}} }

func (l *Ledger) history(id string) *history {
	a, ok := l.messages[id]
	if !ok {
		a = &history{}
		l.messages[id] = a
	}
	return a
}

// Published notes how the publish of a message ended. Where messages may be removed by others it is
// called before the publish as well, with Unknown: a message removed before that is another one.
func (l *Ledger) Published(id string, outcome Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.history(id)
	a.outcome = outcome
	if a.since.IsZero() {
		a.since = time.Now()
	}
}

// Delayed notes that a message must not be delivered before it is due.
func (l *Ledger) Delayed(id string, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history(id).due = due
}

// Delivered notes that a consumer has got a message. It must be called before the message is acked.
func (l *Ledger) Delivered(id, consumer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.last.IsZero() {
		l.gap = max(l.gap, now.Sub(l.last))
	}
	l.last = now
	l.count++
	a := l.history(id)
	a.deliveries = append(a.deliveries, delivery{at: now, consumer: consumer})
}

// Returned notes why a message that a consumer has got may be delivered again.
func (l *Ledger) Returned(id, consumer string, cause Cause) {
	l.mu.Lock()
	defer l.mu.Unlock()
	deliveries := l.history(id).deliveries
	for i := range deliveries {
		if deliveries[i].consumer == consumer {
			deliveries[i].cause = cause
		}
	}
}

// Begin notes that something begins to go wrong: for all consumers, or for the one that is named.
// It goes on until end is called.
func (l *Ledger) Begin(name, consumer string) (end func()) {
	return l.begin(fault{name: name, consumer: consumer})
}

// BeginFor is Begin for some messages: those that concerns is true of.
func (l *Ledger) BeginFor(name string, appliesTo func(id string) bool) (end func()) {
	return l.begin(fault{name: name, appliesTo: appliesTo})
}

// Happened notes that something went wrong for all consumers, when that is over.
func (l *Ledger) Happened(name string, from, till time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fault{name: name, from: from, till: till})
}

func (l *Ledger) begin(f fault) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.faults)
	f.from = time.Now()
	l.faults = append(l.faults, f)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.faults[i].till = time.Now()
	}
}

// Removing notes that something begins to remove from the queue what is in it, all or some. It goes
// on until end is called. Messages published before that and not delivered are not lost.
func (l *Ledger) Removing() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &removal{}
	l.removals = append(l.removals, r)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		r.till = time.Now()
	}
}

// Removed notes that others may have removed this message from the queue.
func (l *Ledger) Removed(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history(id).removed = true
}

// Deliveries returns how many there were.
func (l *Ledger) Deliveries() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Stored returns how many messages are known to have been stored.
func (l *Ledger) Stored() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.messages {
		if a.outcome == Stored {
			n++
		}
	}
	return n
}

// DeliveredSince reports whether something was delivered after moment.
func (l *Ledger) DeliveredSince(moment time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.After(moment)
}

// CopyOutcomes copies to another ledger how each publish ended, of the messages that concerns is
// true of.
func (l *Ledger) CopyOutcomes(to *Ledger, appliesTo func(id string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.messages {
		if a.outcome != none && appliesTo(id) {
			to.Published(id, a.outcome)
		}
	}
}

// Report adds everything up. It is for when nothing is on its way any more.
func (l *Ledger) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Report{Lost: []string{}, Unexpected: []string{}, Early: []string{}, Unexplained: []string{}, Causes: map[string]int{}, LongestGap: l.gap}
	for _, id := range slices.Sorted(maps.Keys(l.messages)) {
		r.add(id, l.messages[id], l.mayBeRemoved(l.messages[id]))
		l.explain(&r, id)
	}
	return r
}

// mayBeRemoved reports whether others can have removed a message from the queue.
func (l *Ledger) mayBeRemoved(a *history) bool {
	return a.removed || slices.ContainsFunc(l.removals, func(r *removal) bool {
		return r.till.IsZero() || r.till.After(a.since)
	})
}

// explain finds the cause of each duplicate: the consumer's report, or else the first
// fault between the delivery and the one before it.
func (l *Ledger) explain(r *Report, id string) {
	deliveries := l.messages[id].deliveries
	for i := 1; i < len(deliveries); i++ {
		r.Duplicates++
		cause := string(deliveries[i-1].cause)
		if cause == "" {
			cause = l.faultBetween(id, deliveries[i-1], deliveries[i])
		}
		if cause == "" {
			r.Unexplained = append(r.Unexplained, fmt.Sprintf("%s: %s at %s, and again %s after %v", id,
				deliveries[i-1].consumer, deliveries[i-1].at.Format(time.TimeOnly), deliveries[i].consumer, deliveries[i].at.Sub(deliveries[i-1].at)))
			continue
		}
		r.Causes[cause]++
	}
}

func (l *Ledger) faultBetween(id string, first, second delivery) string {
	for _, f := range l.faults {
		over := !f.till.IsZero() && f.till.Before(first.at)
		concerned := (f.consumer == "" || f.consumer == first.consumer) && (f.appliesTo == nil || f.appliesTo(id))
		if !over && f.from.Before(second.at) && concerned {
			return f.name
		}
	}
	return ""
}
