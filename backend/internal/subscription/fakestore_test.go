package subscription_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// fakeStore is a store that keeps every rule of [subscription.Store], by the
// clock of its bubble, and writes down what happens to it. What it does wrong,
// the test has scripted: see fault.
//
// A subscription sees it through a storeView, so that the store knows which one calls.
type fakeStore struct {
	ledger

	mu          sync.Mutex
	messages    map[int64]*stored
	lastID      int64
	lastLease   time.Time
	changed     chan struct{} // closed, and replaced, when a message may have become visible
	tokens      map[*message.Message]subscription.Token
	receipt     any                                // of every delivery; nil: its token
	size        int                                // of every message
	keyed       bool                               // some messages have keys
	refused     func(subscription.Settlement) bool // which settlements it refuses; nil: none
	transient   atomic.Bool                        // whether what it refuses may be accepted another time
	whole       atomic.Bool                        // whether all else of the batch is refused, too
	refusesAcks atomic.Bool                        // it refuses all acks
	unchanged   func(id int64) bool                // which messages it neither leases nor makes visible, and says nothing; nil: none
	passedBy    map[int64]bool                     // those of them that it has found, and locks no more
	pause       *backend.Paused                    // nil: the topic is not paused
	pauseSet    chan struct{}                      // closed, and replaced, when that changes

	cancelled     map[int64]bool // what cancel has removed
	removals      chan struct{}  // closed, and replaced, when that changes
	hidesRemovals atomic.Bool    // and is not
	ahead         time.Duration  // of the clock of the subscriptions
}

// stored is one message, and the lease that it had last.
type stored struct {
	id           int64
	number       int
	leased       time.Time
	visible      time.Time
	failures     int
	published    time.Time
	lockedBatch  *fakeLockedBatch // nil if it is not locked by a subscription
	lockedUntil  time.Time        // until when a transaction of others has locked it
	lockedBefore bool             // a subscription has locked it and not removed it
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		messages: map[int64]*stored{},
		changed:  make(chan struct{}),
		pauseSet: make(chan struct{}),
		removals: make(chan struct{}), cancelled: map[int64]bool{},
		tokens: map[*message.Message]subscription.Token{},
	}
}

// publish stores n messages. Their ids count from 1.
func (s *fakeStore) publish(n int) { s.publishDelayed(n, 0) }

func (s *fakeStore) publishDelayed(n int, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for range n {
		s.lastID++
		s.messages[s.lastID] = &stored{id: s.lastID, published: now, visible: now.Add(delay)}
		s.record(event{kind: published, token: subscription.Token{ID: s.lastID}})
	}
	s.signalChange()
}

// expire ends the lease of a message by the clock of the store. Its subscription does
// not know.
func (s *fakeStore) expire(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil {
		s.breakLocks(m.lockedBatch)
		s.record(event{kind: expired, token: m.token()})
		s.expose(m, time.Now())
	}
}

// competitor is another consumer, in another process.
const competitor = "competitor"

// steal leases a message to another consumer, also if it is leased or locked. The competitor
// keeps it for d, unless it settles the token.
func (s *fakeStore) steal(id int64, d time.Duration) subscription.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		return subscription.Token{}
	}
	s.breakLocks(m.lockedBatch)
	s.record(event{kind: expired, token: m.token()})
	s.lease(competitor, m, d)
	return m.token()
}

// remove deletes a message, as an operator does.
func (s *fakeStore) remove(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil {
		s.breakLocks(m.lockedBatch)
		s.record(event{kind: removed, token: m.token()})
		delete(s.messages, id)
	}
}

// cancel deletes a message that may be leased, and tells of it.
func (s *fakeStore) cancel(id int64) {
	s.remove(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled[id] = true
	if !s.hidesRemovals.Load() {
		close(s.removals)
		s.removals = make(chan struct{})
	}
}

// Removed implements [subscription.Removable].
func (s *fakeStore) Removed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removals
}

// setAhead sets the clock of the store ahead of that of the subscriptions.
func (s *fakeStore) setAhead(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = d
}

// lockFor keeps all subscriptions from a message for d, unless one has locked it. Its lease
// goes on.
func (s *fakeStore) lockFor(id int64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil && m.lockedBatch == nil {
		m.lockedUntil = time.Now().Add(d)
		time.AfterFunc(d, func() { // subscriptions that do not poll have to hear of it
			s.mu.Lock()
			defer s.mu.Unlock()
			s.signalChange()
		})
	}
}

// linger keeps messages locked for a moment after their call was given up: PostgreSQL needs
// that to end a statement that is cancelled.
func (s *fakeStore) linger(ids []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := time.Now().Add(lingering)
	for _, id := range ids {
		if m := s.messages[id]; m != nil && m.lockedUntil.Before(until) {
			m.lockedUntil = until
		}
	}
}

// isLocked reports whether others keep a subscription from m.
func (m *stored) isLocked(subscriber string) bool {
	return m.lockedBatch != nil && m.lockedBatch.v.subscriber != subscriber || time.Now().Before(m.lockedUntil)
}

func (s *fakeStore) ids() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.messages))
}

func (s *fakeStore) tokenOf(msg *message.Message) subscription.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens[msg]
}

func (s *fakeStore) onChange() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// setPaused pauses the topic, or resumes it.
func (s *fakeStore) setPaused(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pause = nil
	s.record(event{kind: topicResumed})
	if paused {
		s.pause = &backend.Paused{Topic: "t", By: "a test", Reason: "it has one", Since: time.Now()}
		s.record(event{kind: topicPaused})
	}
	close(s.pauseSet)
	s.pauseSet = make(chan struct{})
}

// Paused implements [subscription.Pausable].
func (s *fakeStore) Paused() (*backend.Paused, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pause, s.pauseSet
}

func (s *fakeStore) signalChange() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeStore) expose(m *stored, at time.Time) {
	m.visible = at
	s.signalChange()
}

func (m *stored) token() subscription.Token {
	return subscription.Token{ID: m.id, Number: m.number, At: m.leased}
}

func (s *fakeStore) claim(subscriber string, settle []subscription.Settlement, limit int, d time.Duration) (subscription.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuse(subscriber, settle); err != nil {
		return subscription.Claim{}, err
	}
	claim := subscription.Claim{Missed: s.settleAll(subscriber, settle), Next: -1}
	now := time.Now()
	for _, m := range s.byVisibility() {
		if m.visible.After(now) || len(claim.Leases) == limit {
			break
		}
		if m.lockedBatch != nil || m.isLocked(subscriber) || s.leavesUnchanged(m.id) {
			continue
		}
		s.lease(subscriber, m, d)
		claim.Leases = append(claim.Leases, s.leaseOf(m))
	}
	if left := s.byVisibility(); len(left) > 0 {
		claim.Next = max(left[0].visible.Sub(now), 0)
	}
	return claim, nil
}

func (s *fakeStore) byVisibility() []*stored {
	return slices.SortedFunc(maps.Values(s.messages), func(a, b *stored) int {
		return cmp.Or(a.visible.Compare(b.visible), cmp.Compare(a.id, b.id))
	})
}

// lease leases m to a subscription, with a time that no lease has had before.
func (s *fakeStore) lease(subscriber string, m *stored, d time.Duration) {
	s.stamp(m)
	m.number++
	m.lockedBefore = false
	m.visible = time.Now().Add(d)
	s.record(event{kind: claimed, subscriber: subscriber, token: m.token(), failures: m.failures})
}

func (s *fakeStore) stamp(m *stored) {
	m.leased = time.Now()
	if !m.leased.After(s.lastLease) {
		m.leased = s.lastLease.Add(1)
	}
	s.lastLease = m.leased
}

func (s *fakeStore) leaseOf(m *stored) subscription.Lease {
	msg := message.NewMessage(fmt.Sprint(m.id), []byte("{}"))
	if s.keyed && m.id%4 > 0 {
		msg.Metadata.Set("x-pgmq-group", fmt.Sprint(m.id%4))
	}
	s.tokens[msg] = m.token()
	receipt := s.receipt
	if receipt == nil {
		receipt = m.token()
	}
	return subscription.Lease{
		Token: m.token(), Message: msg, Size: s.size,
		Delivery: &backend.Delivery{DeadLetters: true, Number: m.number, Failures: m.failures, PublishedAt: m.published, Receipt: receipt},
	}
}

func (s *fakeStore) settle(subscriber string, settle ...subscription.Settlement) subscription.Missed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settleAll(subscriber, settle)
}

func (s *fakeStore) settleOrRefuse(subscriber string, settle []subscription.Settlement) (subscription.Missed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuse(subscriber, settle); err != nil {
		return subscription.Missed{}, err
	}
	return s.settleAll(subscriber, settle), nil
}

// refuseIf has the store refuse the settlements for which f returns true; nil: none.
func (s *fakeStore) refuseIf(f func(subscription.Settlement) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = f
}

// leaveUnchanged has the store change nothing of the messages for which f returns true, as a trigger does
// that returns NULL. They can be locked, and removed.
func (s *fakeStore) leaveUnchanged(f func(id int64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unchanged, s.passedBy = f, map[int64]bool{}
	s.signalChange()
}

func (s *fakeStore) leavesUnchanged(id int64) bool { return s.unchanged != nil && s.unchanged(id) }

var errRefused = errors.New("the store does not take this")

// refuse returns why nothing of a batch is carried out.
func (s *fakeStore) refuse(subscriber string, settle []subscription.Settlement) error {
	for _, settlement := range settle {
		m := s.messages[settlement.ID]
		if m == nil || m.token() != settlement.Token || m.isLocked(subscriber) || !s.refuses(settlement) {
			continue
		}
		s.record(event{kind: settled, subscriber: subscriber, token: settlement.Token, action: settlement.Action, result: refused})
		return &subscription.Refusal{Cause: errRefused, Transient: s.transient.Load(), Whole: s.whole.Load()}
	}
	return nil
}

func (s *fakeStore) refuses(settlement subscription.Settlement) bool {
	return s.refused != nil && s.refused(settlement) || s.refusesAcks.Load() && settlement.Action == subscription.Ack
}

func (s *fakeStore) settleAll(subscriber string, settle []subscription.Settlement) (missed subscription.Missed) {
	for _, settlement := range settle {
		e := event{
			kind: settled, subscriber: subscriber, token: settlement.Token, action: settlement.Action,
			delay: settlement.Disposition.Fallback.Delay, failures: settlement.Disposition.Fallback.Failures,
		}
		switch m := s.messages[settlement.ID]; {
		case m == nil:
			e.result = gone
			missed.Gone = append(missed.Gone, settlement.Token)
		case m.token() != settlement.Token:
			e.result = fenced
			missed.Lost = append(missed.Lost, settlement.Token)
		case m.isLocked(subscriber), s.leavesUnchanged(m.id) && settlement.Action != subscription.Ack && settlement.Action != subscription.DeadLetter:
			e.result = blocked
			missed.Busy = append(missed.Busy, settlement.Token)
		default:
			e.result = accepted
			s.apply(m, settlement)
		}
		s.record(e)
	}
	return missed
}

func (s *fakeStore) apply(m *stored, settlement subscription.Settlement) {
	switch settlement.Action {
	case subscription.Ack, subscription.DeadLetter:
		delete(s.messages, m.id)
		if len(s.messages) == 0 {
			s.signalChange()
		}
	case subscription.Nack:
		if !settlement.Bare {
			m.failures = settlement.Disposition.Fallback.Failures
		}
		s.expose(m, time.Now().Add(settlement.Disposition.Fallback.Delay))
	case subscription.Release:
		m.number--
		m.lockedBefore = false
		s.expose(m, time.Now())
	}
}

func (s *fakeStore) extend(subscriber string, tokens []subscription.Token, d time.Duration) (missed subscription.Missed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	missed.Now = time.Now().Add(s.ahead)
	for _, token := range tokens {
		e := event{kind: extended, subscriber: subscriber, token: token, result: accepted}
		switch m := s.messages[token.ID]; {
		case m == nil && s.cancelled[token.ID]:
			e.result = gone
			missed.Gone = append(missed.Gone, token)
		case m == nil || m.token() != token:
			e.result = fenced
			missed.Lost = append(missed.Lost, token)
		case m.isLocked(subscriber), s.leavesUnchanged(m.id):
			e.result = blocked
			missed.Busy = append(missed.Busy, token)
		default:
			m.visible = time.Now().Add(d)
		}
		s.record(e)
	}
	return missed
}

// storeView is the store as one subscription sees it.
type storeView struct {
	*fakeStore
	subscriber string

	polled        bool        // reports neither changes nor when the next message comes
	claimsNothing atomic.Bool // claims nothing, although it sees what is there

	locksNothing atomic.Bool // locks nothing

	faultOf        func(call) fault // for the calls that are not scripted; may be nil
	mu             sync.Mutex
	scriptedFaults map[method][]fault // for the next calls
	calls          map[method][]*call
}

var (
	_ subscription.Pausable  = (*storeView)(nil)
	_ subscription.Removable = (*storeView)(nil)
)

func (s *fakeStore) viewOf(subscriber string) *storeView {
	return &storeView{fakeStore: s, subscriber: subscriber, scriptedFaults: map[method][]fault{}, calls: map[method][]*call{}}
}

// Changed implements [subscription.Store].
func (v *storeView) Changed() <-chan struct{} {
	if v.polled {
		return nil
	}
	return v.onChange()
}

// Claim implements [subscription.Store].
func (v *storeView) Claim(ctx context.Context, settle []subscription.Settlement, limit int, d time.Duration) (claim subscription.Claim, err error) {
	var refusal error
	err = v.perform(ctx, &call{method: claiming, settle: slices.Clone(settle), limit: limit}, func() {
		if v.claimsNothing.Load() {
			limit = 0
		}
		claim, refusal = v.claim(v.subscriber, settle, limit, d)
	})
	if err = cmp.Or(err, refusal); err != nil {
		return subscription.Claim{}, err
	}
	if v.polled {
		claim.Next = -1
	}
	return claim, nil
}

// Settle implements [subscription.Store].
func (v *storeView) Settle(ctx context.Context, settle []subscription.Settlement) (missed subscription.Missed, err error) {
	var refusal error
	err = v.perform(ctx, &call{method: settling, settle: slices.Clone(settle)}, func() {
		missed, refusal = v.settleOrRefuse(v.subscriber, settle)
	})
	return missed, cmp.Or(err, refusal)
}

// Extend implements [subscription.Store].
func (v *storeView) Extend(ctx context.Context, tokens []subscription.Token, d time.Duration) (missed subscription.Missed, err error) {
	err = v.perform(ctx, &call{method: extending, tokens: slices.Clone(tokens)}, func() {
		missed = v.extend(v.subscriber, tokens, d)
	})
	return missed, err
}
