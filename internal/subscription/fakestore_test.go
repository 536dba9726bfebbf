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
	"github.com/ezq-go/ezq/internal/subscription"
)

// fakeStore is a store that keeps every rule of [subscription.Store], by the
// clock of its bubble, and writes down what happens to it. What it does wrong,
// it has been told to do: see fault.
//
// A subscription sees it through a view, so that the store knows who calls.
type fakeStore struct {
	ledger

	mu        sync.Mutex
	messages  map[int64]*stored
	lastID    int64
	lastLease time.Time
	changed   chan struct{} // closed, and replaced, when a message may have become visible
	tokens    map[*message.Message]subscription.Token
	receipt   any                                // of every delivery; its token unless told
	size      int                                // of every message
	keyed     bool                               // some messages have keys
	odd       func(subscription.Settlement) bool // what it refuses; nil: nothing
	mayPass   atomic.Bool                        // and says that it may take it another time
	whole     atomic.Bool                        // and says that all else in the batch is refused, too
	noAcks    atomic.Bool                        // it refuses all acks
}

// stored is one message, and the lease that it had last.
type stored struct {
	id        int64
	number    int
	leased    time.Time
	visible   time.Time
	failures  int
	published time.Time
	hold      *fakeHold // nil if nobody holds it
	locked    time.Time // until when somebody has locked it who does not lease it
	touched   bool      // it was held, and is as it was before
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		messages: map[int64]*stored{},
		changed:  make(chan struct{}),
		tokens:   map[*message.Message]subscription.Token{},
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
		s.note(event{kind: published, token: subscription.Token{ID: s.lastID}})
	}
	s.change()
}

// expire ends the lease of a message by the clock of the store: whoever holds it
// does not know.
func (s *fakeStore) expire(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil {
		s.breakHold(m.hold)
		s.note(event{kind: expired, token: m.token()})
		s.expose(m, time.Now())
	}
}

// competitor is another consumer, in another process.
const competitor = "competitor"

// steal leases a message to another consumer, whoever holds it. The competitor
// keeps it for d, unless it settles the token.
func (s *fakeStore) steal(id int64, d time.Duration) subscription.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.messages[id]
	if m == nil {
		return subscription.Token{}
	}
	s.breakHold(m.hold)
	s.note(event{kind: expired, token: m.token()})
	s.lease(competitor, m, d)
	return m.token()
}

// remove deletes a message, as an operator does.
func (s *fakeStore) remove(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil {
		s.breakHold(m.hold)
		s.note(event{kind: removed, token: m.token()})
		delete(s.messages, id)
	}
}

// lockFor keeps everybody from a message for d, unless it is held. Its lease goes on.
func (s *fakeStore) lockFor(id int64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.messages[id]; m != nil && m.hold == nil {
		m.locked = time.Now().Add(d)
		time.AfterFunc(d, func() { // subscriptions that do not poll have to hear of it
			s.mu.Lock()
			defer s.mu.Unlock()
			s.change()
		})
	}
}

// isLocked reports whether others keep who from m.
func (m *stored) isLocked(who string) bool {
	return m.hold != nil && m.hold.v.who != who || time.Now().Before(m.locked)
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

func (s *fakeStore) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeStore) expose(m *stored, at time.Time) {
	m.visible = at
	s.change()
}

func (m *stored) token() subscription.Token {
	return subscription.Token{ID: m.id, Number: m.number, At: m.leased}
}

func (s *fakeStore) claim(who string, settle []subscription.Settlement, limit int, d time.Duration) (subscription.Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuse(who, settle); err != nil {
		return subscription.Claim{}, err
	}
	claim := subscription.Claim{Missed: s.settleAll(who, settle), Next: -1}
	now := time.Now()
	for _, m := range s.byVisibility() {
		if m.visible.After(now) || len(claim.Leases) == limit {
			break
		}
		if m.hold != nil || m.isLocked(who) {
			continue
		}
		s.lease(who, m, d)
		claim.Leases = append(claim.Leases, s.handOut(m))
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

// lease gives m to who, with a time that no lease has had before.
func (s *fakeStore) lease(who string, m *stored, d time.Duration) {
	s.stamp(m)
	m.number++
	m.touched = false
	m.visible = time.Now().Add(d)
	s.note(event{kind: claimed, who: who, token: m.token(), failed: m.failures})
}

func (s *fakeStore) stamp(m *stored) {
	m.leased = time.Now()
	if !m.leased.After(s.lastLease) {
		m.leased = s.lastLease.Add(1)
	}
	s.lastLease = m.leased
}

func (s *fakeStore) handOut(m *stored) subscription.Lease {
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

func (s *fakeStore) settle(who string, settle ...subscription.Settlement) subscription.Missed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settleAll(who, settle)
}

func (s *fakeStore) settleOrRefuse(who string, settle []subscription.Settlement) (subscription.Missed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuse(who, settle); err != nil {
		return subscription.Missed{}, err
	}
	return s.settleAll(who, settle), nil
}

// refuseIf has the store refuse the outcomes that are odd; nil: none.
func (s *fakeStore) refuseIf(odd func(subscription.Settlement) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = odd
}

var errOdd = errors.New("the store does not take this")

// refuse returns why nothing of a batch is carried out.
func (s *fakeStore) refuse(who string, settle []subscription.Settlement) error {
	for _, outcome := range settle {
		m := s.messages[outcome.ID]
		if m == nil || m.token() != outcome.Token || m.isLocked(who) || !s.isOdd(outcome) {
			continue
		}
		s.note(event{kind: settled, who: who, token: outcome.Token, action: outcome.Action, result: refused})
		return &subscription.Refusal{Cause: errOdd, MayPass: s.mayPass.Load(), Whole: s.whole.Load()}
	}
	return nil
}

func (s *fakeStore) isOdd(outcome subscription.Settlement) bool {
	return s.odd != nil && s.odd(outcome) || s.noAcks.Load() && outcome.Action == subscription.Ack
}

func (s *fakeStore) settleAll(who string, settle []subscription.Settlement) (missed subscription.Missed) {
	for _, outcome := range settle {
		e := event{
			kind: settled, who: who, token: outcome.Token, action: outcome.Action,
			delay: outcome.Verdict.Delay, failed: outcome.Verdict.Failures,
		}
		switch m := s.messages[outcome.ID]; {
		case m == nil:
			e.result = gone
			missed.Gone = append(missed.Gone, outcome.Token)
		case m.token() != outcome.Token:
			e.result = fenced
			missed.Lost = append(missed.Lost, outcome.Token)
		case m.isLocked(who):
			e.result = blocked
			missed.Busy = append(missed.Busy, outcome.Token)
		default:
			e.result = accepted
			s.apply(m, outcome)
		}
		s.note(e)
	}
	return missed
}

func (s *fakeStore) apply(m *stored, outcome subscription.Settlement) {
	switch outcome.Action {
	case subscription.Ack, subscription.DeadLetter:
		delete(s.messages, m.id)
		if len(s.messages) == 0 {
			s.change()
		}
	case subscription.Nack:
		if !outcome.Bare {
			m.failures = outcome.Verdict.Failures
		}
		s.expose(m, time.Now().Add(outcome.Verdict.Delay))
	case subscription.Release:
		m.number--
		m.touched = false
		s.expose(m, time.Now())
	}
}

func (s *fakeStore) extend(who string, tokens []subscription.Token, d time.Duration) (missed subscription.Missed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, token := range tokens {
		e := event{kind: extended, who: who, token: token, result: accepted}
		switch m := s.messages[token.ID]; {
		case m == nil || m.token() != token:
			e.result = fenced
			missed.Lost = append(missed.Lost, token)
		case m.isLocked(who):
			e.result = blocked
			missed.Busy = append(missed.Busy, token)
		default:
			m.visible = time.Now().Add(d)
		}
		s.note(e)
	}
	return missed
}

// view is the store as one subscription sees it.
type view struct {
	*fakeStore
	who string

	polled bool        // does not tell when something changes, nor what comes next
	locked atomic.Bool // leases nothing, although it sees what is there

	refuses atomic.Bool // holds nothing

	plan    func(call) fault // for the calls that are not scripted; may be nil
	mu      sync.Mutex
	scripts map[method][]fault // for the next calls
	calls   map[method][]*call
}

var _ subscription.Store = (*view)(nil)

func (s *fakeStore) viewOf(who string) *view {
	return &view{fakeStore: s, who: who, scripts: map[method][]fault{}, calls: map[method][]*call{}}
}

// Changed implements [subscription.Store].
func (v *view) Changed() <-chan struct{} {
	if v.polled {
		return nil
	}
	return v.onChange()
}

// Claim implements [subscription.Store].
func (v *view) Claim(ctx context.Context, settle []subscription.Settlement, limit int, d time.Duration) (claim subscription.Claim, err error) {
	var refusal error
	err = v.suffer(ctx, &call{method: claiming, settle: slices.Clone(settle), limit: limit}, func() {
		if v.locked.Load() {
			limit = 0
		}
		claim, refusal = v.claim(v.who, settle, limit, d)
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
func (v *view) Settle(ctx context.Context, settle []subscription.Settlement) (missed subscription.Missed, err error) {
	var refusal error
	err = v.suffer(ctx, &call{method: settling, settle: slices.Clone(settle)}, func() {
		missed, refusal = v.settleOrRefuse(v.who, settle)
	})
	return missed, cmp.Or(err, refusal)
}

// Extend implements [subscription.Store].
func (v *view) Extend(ctx context.Context, tokens []subscription.Token, d time.Duration) (missed subscription.Missed, err error) {
	err = v.suffer(ctx, &call{method: extending, tokens: slices.Clone(tokens)}, func() {
		missed = v.extend(v.who, tokens, d)
	})
	return missed, err
}
