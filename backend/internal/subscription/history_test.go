package subscription_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// promises are what is true of every ledger, whatever the store and the handlers
// have done.
func promises() map[string]func(*history) []string {
	return map[string]func(*history) []string{
		"what has been acked is not delivered again":       (*history).repeatedAfterAck,
		"what is released was not delivered":               (*history).releasedAndDelivered,
		"a message is with one consumer at a time":         (*history).deliveredTwiceAtOnce,
		"a message comes again only for a reason":          (*history).repeatedWithoutReason,
		"a lease is lost only for a reason":                (*history).lostWithoutReason,
		"a nacked message comes no sooner than it should":  (*history).repeatedTooSoon,
		"a settled message is not extended":                (*history).extendedAfterSettlement,
		"a message is settled as its handler has answered": (*history).settledDifferently,
		"what was not handled is released":                 (*history).settledUnhandled,
		"every answer of a handler is stored":              (*history).neverSettled,
		"a handler is interrupted when its lock is lost":   (*history).interruptedLate,
		"what was not handed over is released at the end":  (*history).notReleased,
		"a subscription that has ended calls no store":     (*history).calledAfterEnd,
		"what was delivered before is counted first":       (*history).redeliveredUncounted,
		"a message is delivered uncounted once":            (*history).deliveredUncountedTwice,
		"what is fetched is handed over in that order":     (*history).deliveredOutOfOrder,
		"a paused topic hands over nothing":                (*history).deliveredWhilePaused,
	}
}

// history is a ledger, sorted by subscription and delivery.
type history struct {
	maxExtension time.Duration
	handlersWait bool        // what is handed over waits before its handler begins
	deliveries   []*delivery // in the order of their claims
	byToken      map[subscription.Token]*delivery
	faults       map[string][]event   // the faults of each subscription, also those of a single message
	deadlines    map[string]time.Time // when it need not wait for answers any more
	closed       map[string]time.Time // with the router, whose handlers may outlive the subscription
	lastCall     map[string]time.Time // to the store
	pauses       []event              // and resumptions of the topic, in their order
	paused       map[string]bool      // whether it had several subscriptions, which have ended at any time
	calls        []event              // that the store has carried out
	handed       []*event             // in their order
}

// delivery is what happened under one token. What did not happen is nil.
type delivery struct {
	token      subscription.Token
	subscriber string

	claimed, handed, answered, ended *event

	leased   *event // after it was locked
	lockLost *event // its subscription has learned that its lock is lost

	settled            *event // accepted by the store
	expired            *event // the store took the lease away, or the message is removed
	settlementSeen     bool   // the store was asked to settle it, whether it accepted that or not
	releaseSeen        bool   // with a release
	extendedAfterwards bool   // the lease was extended after the message was settled
}

func newHistory(events []event, maxExtension time.Duration) *history {
	h := &history{
		maxExtension: maxExtension,
		byToken:      map[subscription.Token]*delivery{},
		faults:       map[string][]event{},
		deadlines:    map[string]time.Time{},
		closed:       map[string]time.Time{},
		lastCall:     map[string]time.Time{}, paused: map[string]bool{},
	}
	for i := range events {
		e := &events[i]
		if e.kind == leasedAfterLock {
			h.byToken[e.token] = h.byToken[e.before]
		}
		if d := h.byToken[e.token]; d != nil {
			d.add(e)
		}
		h.add(e)
	}
	return h
}

func (h *history) add(e *event) {
	switch e.kind {
	case claimed:
		d := &delivery{token: e.token, subscriber: e.subscriber, claimed: e}
		h.byToken[e.token] = d
		h.deliveries = append(h.deliveries, d)
		h.calls = append(h.calls, *e)
	case handed:
		h.handed = append(h.handed, e)
	case settled, extended:
		h.calls = append(h.calls, *e)
		h.lastCall[e.subscriber] = e.at
		if e.result == blocked || e.result == refused {
			h.faults[e.subscriber] = append(h.faults[e.subscriber], *e)
		}
	case faulty:
		h.faults[e.subscriber] = append(h.faults[e.subscriber], *e)
	case topicPaused, topicResumed:
		h.pauses = append(h.pauses, *e)
	case paused:
		h.paused[e.subscriber] = true
	case patience:
		until, before := h.deadlines[e.subscriber]
		if at := e.at.Add(e.delay); !before || at.Before(until) {
			h.deadlines[e.subscriber] = at
		}
	case closed:
		h.closed[e.subscriber] = e.at
	}
}

func (d *delivery) add(e *event) {
	switch e.kind {
	case leasedAfterLock:
		d.leased = e
	case lockLost:
		d.lockLost = e
	case handed:
		d.handed = e
	case answered:
		d.answered = e
	case ended:
		d.ended = e
	case expired, removed:
		d.expired = e
	case extended:
		d.extendedAfterwards = d.extendedAfterwards || e.result == accepted && d.settled != nil
	case settled:
		d.settlementSeen = d.settlementSeen || e.result != blocked // a store that refuses a settlement has seen it, too
		d.releaseSeen = d.releaseSeen || e.action == subscription.Release
		if e.result == accepted {
			d.settled = e
		}
	}
}

// onlyLocked reports whether the message of d was locked then, and not leased.
func (d *delivery) onlyLocked(then time.Time) bool {
	return d.claimed.locked && !d.leased.happenedBy(then)
}

// happenedBy reports whether e has happened by then.
func (e *event) happenedBy(then time.Time) bool { return e != nil && !e.at.After(then) }

func (d *delivery) String() string {
	return fmt.Sprintf("message %d, lease %d, of %s", d.token.ID, d.token.Number, d.subscriber)
}

// hadFault reports whether a call to the store failed while d was under way, or found its
// message locked, or was refused because of it.
func (h *history) hadFault(d *delivery, until time.Time) bool {
	return h.hadFaultBetween(d, d.claimed.at, until)
}

func (h *history) hadFaultBetween(d *delivery, from, until time.Time) bool {
	for _, e := range h.faults[d.subscriber] {
		if !e.at.Before(from) && !e.at.After(until) && (e.kind == faulty || e.token.ID == d.token.ID) {
			return true
		}
	}
	return false
}

// wasInterrupted reports whether the context of d ended by then, and not because the
// handler was done.
func (d *delivery) wasInterrupted(then time.Time) bool {
	return d.ended.happenedBy(then) && (errors.Is(d.ended.cause, backend.ErrLeaseLost) ||
		errors.Is(d.ended.cause, backend.ErrInterrupted) || errors.Is(d.ended.cause, errImpatient))
}

// pairs calls f with each two deliveries of one message, in order; next is
// whether no other was handed over between them.
func (h *history) pairs(f func(first, second *delivery, next bool)) {
	before := map[int64][]*delivery{}
	for _, d := range h.deliveries {
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
