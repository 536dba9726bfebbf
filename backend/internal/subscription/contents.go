package subscription

import (
	"iter"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// contents is what [leases] have: messages, what is known about them together, and the signals
// that tell of a change. It has no mutex: that of the leases guards it, but for the signals.
type contents struct {
	config Config

	// Each holds a token when its reader should look again: there may be
	wakeDeliverer chan struct{} // a message and a slot for it,
	wakeFetcher   chan struct{} // capacity, or permission to lock another batch,
	wakeSender    chan struct{} // a loss of the message that is being sent, or a pause,
	wakeExtender  chan struct{} // a lease that is due sooner.

	removed atomic.Bool // messages may have been removed: all leases are extended now

	table    table
	refused  refusedAcks
	capacity capacity
	locks    lockPolicy
	rest     restPeriod
	paused   bool          // nothing more is fetched and handed over
	drained  chan struct{} // closed when the table is empty; nil until asked for
}

func newContents(config Config) contents {
	return contents{
		config:        config,
		wakeDeliverer: make(chan struct{}, 1),
		wakeFetcher:   make(chan struct{}, 1),
		wakeSender:    make(chan struct{}, 1),
		wakeExtender:  make(chan struct{}, 1),
		table:         newTable(),
		refused:       newRefusedAcks(),
		capacity:      newCapacity(config),
		locks:         lockPolicy{lockFor: config.LockFor},
		rest:          newRestPeriod(config),
	}
}

// insert adds a message that the store has just given: an older lease of it is lost.
func (c *contents) insert(l *held) {
	if old := c.table.byID[l.ID]; old != nil {
		c.lose(old) // the store says that it had run out
	}
	c.refused.remove(l.ID)
	c.table.insert(l)
	c.capacity.add(l)
	c.config.Counters.Prefetched.Add(1)
	signal(c.wakeDeliverer)
	signal(c.wakeExtender)
}

// toFetch returns for how many more messages there is capacity.
func (c *contents) toFetch() int {
	if c.paused {
		return 0
	}
	return c.capacity.toFetch(c.table.len(), len(c.table.waiting), c.capacity.window(c.locks.maxWait()))
}

func (c *contents) setPaused(paused bool) {
	c.paused = paused
	signal(c.wakeSender)
	signal(c.wakeDeliverer)
	signal(c.wakeFetcher)
}

// drop removes a lease, and reports whether it was there.
func (c *contents) drop(l *held) bool {
	if !c.table.contains(l) {
		return false
	}
	c.table.remove(l)
	c.capacity.remove(l)
	if l.batch != nil {
		l.batch.closeOne()
	}
	c.counterOf(l.phase).Add(-1)
	if c.table.len() == 0 && c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
	signal(c.wakeDeliverer)
	signal(c.wakeFetcher)
	return true
}

// counterOf returns the counter of the messages in a phase.
func (c *contents) counterOf(p phase) *atomic.Int64 {
	if p < delivered {
		return &c.config.Counters.Prefetched
	}
	return &c.config.Counters.InFlight
}

// lose drops a lease that another consumer may get, or has got.
func (c *contents) lose(l *held) {
	if c.refused.contains(l) {
		c.refused.remove(l.ID)
		return
	}
	if c.drop(l) {
		c.config.Counters.LeasesLost.Add(1)
		l.cancel(backend.ErrLeaseLost)
		signal(c.wakeSender)
	}
}

// cancel drops a message that was removed although it is leased.
func (c *contents) cancel(l *held) {
	c.drop(l)
	c.config.Counters.Cancelled.Add(1)
	l.cancel(backend.ErrCancelled)
	signal(c.wakeSender)
}

// all returns all messages that are leased or locked, those that are done and whose acks are refused
// among them. Each may be removed when it comes.
func (c *contents) all() iter.Seq[*held] {
	return func(yield func(*held) bool) {
		for _, all := range []iter.Seq[*held]{c.table.all(), c.refused.all()} {
			for l := range all {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// untilCheck returns how long until the first lease needs attention, or -1 if
// there is none.
func (c *contents) untilCheck(now time.Time) time.Duration {
	wait := time.Duration(-1)
	for l := range c.all() {
		if l.phase == settling {
			continue
		}
		wait = sooner(wait, max(l.checkAt().Sub(now), 0))
	}
	return wait
}

// due drops the leases that have ended, and returns those to extend now, which are all if messages may have been
// removed, and those to release because they were not received.
func (c *contents) due(now time.Time) (extend, undelivered []*held) {
	all := c.removed.Swap(false)
	for l := range c.all() {
		switch {
		case l.phase == settling:
		case !now.Before(l.expiresAt):
			c.lose(l)
		case l.batch != nil:
		case now.Before(l.end()):
			if (all || l.isDue(now)) && !l.planned {
				l.planned = true
				extend = append(extend, l)
			}
		case l.phase == delivered:
			c.config.Logger.Error("ezq: a message has been handled for too long; its lease is not extended any more",
				"topic", c.config.Topic, "id", excerpt.Of(l.Message.UUID), "limit", c.config.MaxExtension.String())
			c.lose(l)
		default:
			c.rest.notReceived(now)
			c.drop(l)
			undelivered = append(undelivered, l)
		}
	}
	return extend, undelivered
}

// beginExtension returns those of a group that are still to be extended, and notes that extension is
// closed when that is no longer under way.
func (c *contents) beginExtension(group []*held, extension chan struct{}, now time.Time) (live []*held) {
	for _, l := range group {
		l.planned = false
		if l.phase != settling && now.Before(l.expiresAt) && (c.table.contains(l) || c.refused.contains(l)) {
			l.extension = extension
			live = append(live, l)
		}
	}
	return live
}

// extensionDeadline returns until when a call may take that extends the leases of a group: a quarter
// of the time that they have left, so that all parts have their turn. It ends before any lease does,
// or the context of that message would outlive it.
func (c *contents) extensionDeadline(group []*held, sent time.Time) time.Time {
	patience := c.config.OperationTimeout
	for _, l := range group {
		patience = min(patience, l.expiresAt.Sub(sent)/4)
	}
	deadline := sent.Add(patience)
	for l := range c.all() {
		if l.phase != settling && l.expiresAt.Before(deadline) {
			deadline = l.expiresAt
		}
	}
	return deadline
}

// extended records that the leases of a group were extended at sent, except those that were missed,
// and returns how many are lost that were not settled in the meantime, and which were cancelled. A message that
// others have locked keeps the lease that it has, and is tried again before that ends.
func (c *contents) extended(group []*held, missed Missed, sent time.Time) (lost int, cancelled []*held) {
	kinds := missed.kinds()
	for _, l := range group {
		switch kind := kinds[l.Token]; {
		case kind == notMissed:
			l.extended(sent, c.config.Lease)
			l.grantedAt = missed.Now
		case kind == missedBusy:
			l.retryExtension(time.Now(), l.busyRetry())
		case kind == missedGone && c.table.contains(l) && l.wasValid(missed.Now):
			c.cancel(l)
			cancelled = append(cancelled, l)
		case c.table.contains(l):
			c.lose(l)
			lost++
		default:
			c.lose(l) // it is settled, or its ack is refused
		}
	}
	return lost, cancelled
}
