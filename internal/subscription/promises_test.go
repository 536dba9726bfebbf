package subscription_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/subscription"
)

// promises are what holds of every ledger, whatever the store and the handlers
// have done.
func promises() map[string]func(*story) []string {
	return map[string]func(*story) []string{
		"what has been acked is not delivered again":        (*story).repeatedAfterAck,
		"what is released was not delivered":                (*story).releasedAndDelivered,
		"a message is with one consumer at a time":          (*story).overlaps,
		"a message comes again only for a reason":           (*story).repeatedForNothing,
		"a lease is lost only for a reason":                 (*story).lostForNothing,
		"a nacked message comes no sooner than it should":   (*story).tooSoon,
		"a settled message is not extended":                 (*story).extendedWhenOver,
		"the store is told what the handler has said":       (*story).misquoted,
		"what was not handled goes back as it was":          (*story).judgedUnhandled,
		"the store is told everything that has been said":   (*story).forgotten,
		"who handles what was in a lost hold hears of it":   (*story).toldLate,
		"what nobody has begun is given back at the end":    (*story).kept,
		"a subscription that has ended leaves the store be": (*story).undead,
		"what was delivered before is counted first":        (*story).uncounted,
		"a message is delivered uncounted once":             (*story).uncountedAgain,
		"what is fetched is handed over in that order":      (*story).overtaken,
	}
}

// story is a ledger, sorted by what it is about.
type story struct {
	maxExtension time.Duration
	waits        bool        // what is handed over waits before its handler begins
	deliveries   []*delivery // in the order of their claims
	byToken      map[subscription.Token]*delivery
	trouble      map[string][]event   // the faults of each subscription, also those of a single message
	abandons     map[string]time.Time // when it need not wait for answers any more
	closed       map[string]time.Time // with the router, whose handlers may outlive the subscription
	lastCall     map[string]time.Time // to the store
	paused       map[string]bool      // whether it had several subscriptions, which have ended at any time
	calls        []event              // that the store has carried out
	handed       []*event             // in their order
}

// delivery is what happened under one token. What did not happen is nil.
type delivery struct {
	token subscription.Token
	who   string

	claimed, handed, answered, ended *event

	leased *event // after it was held
	unheld *event // its subscription was told that its hold is lost

	settled  *event // accepted by the store
	expired  *event // the store took the lease away, or the message is removed
	told     bool   // the store was told an outcome, whether it wanted it or not
	released bool   // that outcome was a release
	revived  bool   // the lease was extended after the outcome was stored
}

func newStory(events []event, maxExtension time.Duration) *story {
	s := &story{
		maxExtension: maxExtension,
		byToken:      map[subscription.Token]*delivery{},
		trouble:      map[string][]event{},
		abandons:     map[string]time.Time{},
		closed:       map[string]time.Time{},
		lastCall:     map[string]time.Time{}, paused: map[string]bool{},
	}
	for i := range events {
		e := &events[i]
		if e.kind == leasedNow {
			s.byToken[e.token] = s.byToken[e.before]
		}
		if d := s.byToken[e.token]; d != nil {
			d.add(e)
		}
		s.add(e)
	}
	return s
}

func (s *story) add(e *event) {
	switch e.kind {
	case claimed:
		d := &delivery{token: e.token, who: e.who, claimed: e}
		s.byToken[e.token] = d
		s.deliveries = append(s.deliveries, d)
		s.calls = append(s.calls, *e)
	case handed:
		s.handed = append(s.handed, e)
	case settled, extended:
		s.calls = append(s.calls, *e)
		s.lastCall[e.who] = e.at
		if e.result == blocked || e.result == refused {
			s.trouble[e.who] = append(s.trouble[e.who], *e)
		}
	case faulty:
		s.trouble[e.who] = append(s.trouble[e.who], *e)
	case paused:
		s.paused[e.who] = true
	case patience:
		until, before := s.abandons[e.who]
		if at := e.at.Add(e.delay); !before || at.Before(until) {
			s.abandons[e.who] = at
		}
	case closed:
		s.closed[e.who] = e.at
	}
}

func (d *delivery) add(e *event) {
	switch e.kind {
	case leasedNow:
		d.leased = e
	case unheld:
		d.unheld = e
	case handed:
		d.handed = e
	case answered:
		d.answered = e
	case ended:
		d.ended = e
	case expired, removed:
		d.expired = e
	case extended:
		d.revived = d.revived || e.result == accepted && d.settled != nil
	case settled:
		d.told = d.told || e.result != blocked // nor can a store be told what it refuses
		d.released = d.released || e.action == subscription.Release
		if e.result == accepted {
			d.settled = e
		}
	}
}

// onlyHeld is whether the message of d was held then, and not leased.
func (d *delivery) onlyHeld(then time.Time) bool { return d.claimed.held && !d.leased.by(then) }

// by is whether e has happened by then.
func (e *event) by(then time.Time) bool { return e != nil && !e.at.After(then) }

func (d *delivery) String() string {
	return fmt.Sprintf("message %d, lease %d, of %s", d.token.ID, d.token.Number, d.who)
}

// troubled is whether a call to the store failed while d was under way, or found its
// message locked, or was refused because of it.
func (s *story) troubled(d *delivery, until time.Time) bool {
	return s.disturbed(d, d.claimed.at, until)
}

func (s *story) disturbed(d *delivery, from, until time.Time) bool {
	for _, e := range s.trouble[d.who] {
		if !e.at.Before(from) && !e.at.After(until) && (e.kind == faulty || e.token.ID == d.token.ID) {
			return true
		}
	}
	return false
}

// interrupted is whether the context of d ended by then, and not because the
// handler was done.
func (d *delivery) interrupted(then time.Time) bool {
	return d.ended.by(then) && (errors.Is(d.ended.cause, backend.ErrLeaseLost) ||
		errors.Is(d.ended.cause, backend.ErrInterrupted) || errors.Is(d.ended.cause, errImpatient))
}

// pairs calls f with each two deliveries of one message, in order; next is
// whether no other was handed over between them.
func (s *story) pairs(f func(first, second *delivery, next bool)) {
	before := map[int64][]*delivery{}
	for _, d := range s.deliveries {
		if d.handed == nil {
			continue
		}
		earlier := before[d.token.ID]
		for i, first := range earlier {
			f(first, d, i == len(earlier)-1)
		}
		before[d.token.ID] = append(earlier, d)
	}
}
