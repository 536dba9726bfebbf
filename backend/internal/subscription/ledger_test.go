package subscription_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// ledger is everything that has happened to the messages of a store, in order.
type ledger struct {
	mu     sync.Mutex
	events []event
}

// event is one line of the ledger. What a field means depends on the kind.
type event struct {
	kind               kind
	at                 time.Time
	subscriber         string // the subscription
	token              subscription.Token
	action             subscription.Action // answered, settled
	delay              time.Duration       // answered, settled: of a nack; patience
	spread             time.Duration       // answered: the delay may be longer by so much
	contextMayEndFirst bool                // answered: its context may have ended first in the same moment
	failures           int                 // claimed: the failures before; answered, settled: those that a nack says
	result             result              // settled, extended
	cause              error               // ended
	locked             bool                // claimed
	before             subscription.Token  // leasedAfterLock: the token of the lock
}

type kind string

const (
	published       kind = "published" // the message was stored
	claimed         kind = "claimed"   // the store leased it
	leasedAfterLock kind = "leased"    // what was locked is leased
	handed          kind = "handed"    // the consumer received it
	answered        kind = "answered"  // the consumer acked or nacked it
	ended           kind = "ended"     // its context did
	settled         kind = "settled"   // the store was asked to settle it
	extended        kind = "extended"  // the store was asked to extend its lease
	expired         kind = "expired"   // the store has taken the lease away
	lockLost        kind = "lock lost" // its subscription learns that its lock is lost
	removed         kind = "removed"   // others have deleted it
	faulty          kind = "faulty"    // a call of the subscription began or ended that did not work
	paused          kind = "paused"    // one of several subscriptions of a router is to end
	topicPaused     kind = "topic paused"
	topicResumed    kind = "topic resumed"
	patience        kind = "patience" // after delay from now, the subscription need not wait for answers
	closed          kind = "closed"   // the channel of the subscription
)

type result string

const (
	accepted result = "accepted"
	fenced   result = "fenced" // the token was not the latest
	gone     result = "gone"   // the message was not there
	blocked  result = "busy"   // others had locked it
	refused  result = "refused"
)

func (e event) String() string {
	return fmt.Sprintf("%12v %-9s %-10s message %d lease %d: action %d after %v %s %v",
		e.at.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), e.kind, e.subscriber,
		e.token.ID, e.token.Number, e.action, e.delay, e.result, e.cause)
}

func (l *ledger) record(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.at = time.Now()
	l.events = append(l.events, e)
}

// recorded returns the events so far, or those of some kinds.
func (l *ledger) recorded(kinds ...kind) (events []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if len(kinds) == 0 || slices.Contains(kinds, e.kind) {
			events = append(events, e)
		}
	}
	return events
}

// recordReceived records that a consumer has got msg, and later when its context ends.
func (v *storeView) recordReceived(msg *message.Message) {
	v.recordHandedOver(msg.Context(), v.tokenOf(msg))
}

func (v *storeView) recordHandedOver(ctx context.Context, token subscription.Token) {
	v.record(event{kind: handed, subscriber: v.subscriber, token: token})
	context.AfterFunc(ctx, func() {
		v.record(event{kind: ended, subscriber: v.subscriber, token: token, cause: context.Cause(ctx)})
	})
}

// ack answers as a handler does that has succeeded.
func (v *storeView) ack(msg *message.Message) {
	v.record(event{kind: answered, subscriber: v.subscriber, token: v.tokenOf(msg), action: subscription.Ack})
	msg.Ack()
}

// nack answers as a handler does that has failed and knows when to try again.
func (v *storeView) nack(msg *message.Message, delay time.Duration) {
	failed := backend.DeliveryFromContext(msg.Context()).Failures + 1
	v.record(event{kind: answered, subscriber: v.subscriber, token: v.tokenOf(msg), action: subscription.Nack, delay: delay, failures: failed})
	backend.Nack(msg, backend.Redelivery{Delay: delay, Failures: failed})
}

// recordPatience records that the subscription waits for its handlers for d at most.
func (v *storeView) recordPatience(d time.Duration) {
	v.record(event{kind: patience, subscriber: v.subscriber, delay: d})
}

func ackOf(token subscription.Token) subscription.Settlement {
	return subscription.Settlement{Token: token, Action: subscription.Ack}
}
