package subscription

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// lease is a message that this subscription has leased. The mutex of its
// leases guards what is below it.
type lease struct {
	Lease                          // its token is final once hold is nil
	cancel context.CancelCauseFunc // of the message's context
	all    *leases

	hold   *hold // nil if the message is leased
	fate   fate  // at the end of the hold
	phase  phase
	aside  bool      // delivered, but waiting with the consumer
	since  time.Time // when the phase began
	renew  time.Time // when to extend it
	expiry time.Time // when it runs out, by our own clock at the latest

	extension chan struct{} // closed when the last extension is no longer under way
}

type phase uint8

const (
	waiting   phase = iota // for a slot
	handing                // has a slot, is being sent to the channel
	delivered              // is with the consumer
	settling               // was, and is about to be settled
	suspected              // is done, but its ack was refused with others
	refused                // is done, but its ack is refused
)

// leases is the list of what a subscription holds: claimed, and neither settled
// nor lost.
type leases struct {
	config Config

	ready  chan struct{} // holds a token when next should look again,
	freed  chan struct{} // when room should,
	lost   chan struct{} // when the message that is being sent may be lost,
	gained chan struct{} // when renew should

	mu      sync.Mutex
	byID    map[int64]*lease
	refused map[int64]*lease // messages that are done, and whose acks the store refuses for now,
	refusal error            // and why
	queue   []*lease         // the waiting ones, oldest claim first
	bytes   int64            // of all messages in byID
	largest int64            // message of the last claim that brought any, in bytes
	took    time.Duration    // by claims that brought some, of late
	slots   int              // taken by messages that are handing or delivered, and not aside
	aside   int              // how many are
	speed   rate
	habit   habit
	only    bool          // nothing is to be held any more,
	trouble time.Time     // or not before that and mistrust
	holds   []*hold       // oldest first
	taken   time.Time     // when the consumer last received a message
	rest    time.Time     // until when to leave messages to other consumers
	drained chan struct{} // closed when byID is empty; nil until asked for
}

func newLeases(config Config) *leases {
	return &leases{
		config:  config,
		largest: unknownSize,
		ready:   make(chan struct{}, 1),
		freed:   make(chan struct{}, 1),
		lost:    make(chan struct{}, 1),
		gained:  make(chan struct{}, 1),
		byID:    map[int64]*lease{},
		refused: map[int64]*lease{},
	}
}

// lease returns a lease for each message that was asked for at sent. Their contexts
// get their values from parent.
func (ls *leases) lease(parent context.Context, claimed []Lease, sent time.Time) []*lease {
	const together = 16 // leases in one allocation; they are freed together, so not too many
	all := make([]*lease, 0, len(claimed))
	for some := range slices.Chunk(claimed, together) {
		block := make([]lease, len(some))
		for i, c := range some {
			l := &block[i]
			ctx, cancel := context.WithCancelCause(backend.WithDelivery(parent, c.Delivery))
			c.Message.SetContext(ctx)
			c.Delivery.Parker = l
			l.Lease, l.cancel, l.all, l.since = c, cancel, ls, sent
			l.extended(sent, ls.config.Lease)
			all = append(all, l)
		}
	}
	return all
}

// add takes leases.
func (ls *leases) add(claimed []*lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range claimed {
		ls.insert(l)
	}
}

func (ls *leases) insert(l *lease) {
	if old := ls.byID[l.ID]; old != nil {
		ls.lose(old) // the store says that it had run out
	}
	delete(ls.refused, l.ID)
	ls.byID[l.ID] = l
	ls.bytes += int64(l.Size)
	if l.phase == waiting {
		ls.queue = append(ls.queue, l)
	}
	ls.config.Counters.Waiting.Add(1)
	signal(ls.ready)
	signal(ls.gained)
}

// extended notes that the store was asked at sent to lease for d, and did.
func (l *lease) extended(sent time.Time, d time.Duration) {
	l.renew = sent.Add(d / 3)
	l.expiry = sent.Add(d)
}

// next waits for a message and a slot for it.
func (ls *leases) next(ctx context.Context) (*lease, bool) {
	for ctx.Err() == nil {
		ls.mu.Lock()
		if len(ls.queue) > 0 && ls.slots < ls.config.MaxInFlight {
			l := ls.queue[0]
			ls.queue[0] = nil
			ls.queue = ls.queue[1:]
			ls.slots++
			l.phase = handing
			ls.mu.Unlock()
			signal(ls.freed)
			return l, true
		}
		ls.mu.Unlock()
		select {
		case <-ls.ready:
		case <-ctx.Done():
		}
	}
	return nil, false
}

// putBack undoes next at the end, when nobody needs the slot any more.
func (ls *leases) putBack(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byID[l.ID] != l {
		return // lost meanwhile
	}
	l.phase = waiting
	ls.queue = slices.Insert(ls.queue, 0, l)
}

func (ls *leases) handedOver(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.phase, l.since = delivered, time.Now()
	if ls.byID[l.ID] == l { // not lost meanwhile
		ls.config.Counters.Waiting.Add(-1)
		ls.config.Counters.InFlight.Add(1)
	}
	ls.taken, ls.rest = l.since, time.Time{}
	if ls.end(l).Before(l.renew) {
		signal(ls.gained)
	}
}

// remove forgets a lease, which frees its slot. It does nothing if the lease is
// lost already.
func (ls *leases) remove(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.drop(l)
}

func (ls *leases) drop(l *lease) bool {
	if ls.byID[l.ID] != l {
		return false
	}
	delete(ls.byID, l.ID)
	ls.bytes -= int64(l.Size)
	if h := l.hold; h != nil {
		h.open--
		h.endWith(h.enough)
	}
	ls.now(l.phase).Add(-1)
	switch {
	case l.phase == waiting:
		ls.queue = slices.DeleteFunc(ls.queue, func(x *lease) bool { return x == l })
	case l.aside:
		ls.aside--
	default:
		ls.slots--
	}
	if len(ls.byID) == 0 && ls.drained != nil {
		close(ls.drained)
		ls.drained = nil
	}
	signal(ls.ready)
	signal(ls.freed)
	return true
}

// now returns the counter of the messages in a phase.
func (ls *leases) now(p phase) *atomic.Int64 {
	if p < delivered {
		return &ls.config.Counters.Waiting
	}
	return &ls.config.Counters.InFlight
}

// SetAside implements [backend.Parker]. A message that is aside has no slot.
func (l *lease) Park(aside bool) {
	ls := l.all
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l.aside == aside || ls.byID[l.ID] != l {
		return
	}
	l.aside = aside
	if !aside {
		ls.aside--
		ls.slots++ // there may be more than MaxInFlight for a moment
		return
	}
	ls.aside++
	ls.slots--
	signal(ls.ready)
	signal(ls.freed)
}

// lose drops a lease that another consumer may get, or has got.
func (ls *leases) lose(l *lease) {
	if ls.refused[l.ID] == l {
		delete(ls.refused, l.ID)
		return
	}
	if ls.drop(l) {
		ls.config.Counters.LeasesLost.Add(1)
		l.cancel(backend.ErrLeaseLost)
		signal(ls.lost)
	}
}

// has reports whether l is neither settled nor lost.
func (ls *leases) has(l *lease) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.byID[l.ID] == l
}

// stored notes that the outcomes of messages have been stored, or that they never will be.
func (ls *leases) stored(batch []Settlement) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.speed.add(len(batch), time.Now())
	if !ls.config.SyncAck && len(ls.refused) == 0 {
		return
	}
	taken := false
	for _, outcome := range batch {
		if l := ls.byID[outcome.ID]; l != nil && l.Token == outcome.Token {
			ls.drop(l)
		}
		if l := ls.refused[outcome.ID]; l != nil && l.Token == outcome.Token {
			delete(ls.refused, outcome.ID)
			taken = taken || l.phase == refused
		}
	}
	if taken { // so it may take others, too
		for _, l := range ls.refused {
			l.phase = min(l.phase, suspected)
		}
	}
}

// suspect goes on leasing the messages of a batch whose acks may be refused, until that is
// known.
func (ls *leases) suspect(batch []Settlement, cause error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, outcome := range batch {
		if outcome.Action == Ack {
			ls.goOn(outcome.Token, suspected)
		}
	}
	ls.refusal = cause
	signal(ls.gained)
}

// keepRefused goes on leasing messages that are done, and whose acks the store refuses because of
// cause. They have no slots. It returns how many are new.
func (ls *leases) keepRefused(acks []Settlement, cause error) (more int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, ack := range acks {
		if l := ls.byID[ack.ID]; l != nil && l.Token == ack.Token {
			ls.drop(l) // with SyncAck
		}
		if ls.goOn(ack.Token, refused) {
			more++
		}
	}
	ls.refusal = cause
	signal(ls.gained)
	return more
}

// goOn leases a message that is done. It reports whether that is new in this phase.
func (ls *leases) goOn(token Token, phase phase) bool {
	if l := ls.refused[token.ID]; l != nil && l.Token == token {
		isNew := l.phase < phase
		l.phase = max(l.phase, phase)
		return isNew
	}
	now := time.Now()
	ls.refused[token.ID] = &lease{
		Lease: Lease{Token: token}, all: ls, cancel: func(error) {},
		phase: phase, renew: now, expiry: now.Add(ls.config.Lease),
	}
	return true
}

// manyRefused reports whether so many acks are refused that it may be the fault of none of them.
func (ls *leases) manyRefused() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.countRefused() >= maxRefused
}

// countRefused counts the acks that are refused by themselves.
func (ls *leases) countRefused() (n int) {
	for _, l := range ls.refused {
		if l.phase == refused {
			n++
		}
	}
	return n
}

// tooManyRefused returns why nothing more is to be fetched: too many acks are refused, or may be.
func (ls *leases) tooManyRefused() error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.countRefused() < maxRefused && len(ls.refused) < maxRefused+settleBatch {
		return nil
	}
	return fmt.Errorf("the acks of %d messages are refused, and have to be stored first: %w", len(ls.refused), ls.refusal)
}
