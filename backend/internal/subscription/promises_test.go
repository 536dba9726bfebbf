package subscription_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// brokenPromises returns a line for each promise that the history does not keep.
func (h *history) brokenPromises() (complaints []string) {
	for promise, check := range promises() {
		for _, what := range check(h) {
			complaints = append(complaints, promise+": "+what)
		}
	}
	slices.Sort(complaints)
	return complaints
}

// deliveriesWhere returns the deliveries that were handed over and for which f is true.
func (h *history) deliveriesWhere(f func(d *delivery) bool) (found []string) {
	for _, d := range h.deliveries {
		if d.handed != nil && f(d) {
			found = append(found, d.String())
		}
	}
	return found
}

func (h *history) repeatedAfterAck() (found []string) {
	h.pairs(func(first, second *delivery, _ bool) {
		if first.settled != nil && first.settled.action == subscription.Ack {
			found = append(found, second.String())
		}
	})
	return found
}

func (h *history) releasedAndDelivered() []string {
	return h.deliveriesWhere(func(d *delivery) bool { return d.releaseSeen })
}

func (h *history) deliveredTwiceAtOnce() (found []string) {
	h.pairs(func(first, second *delivery, _ bool) {
		at := second.handed.at
		if !first.answered.happenedBy(at) && !first.ended.happenedBy(at) && !first.expired.happenedBy(at) {
			found = append(found, fmt.Sprintf("%v while it was %v", second, first))
		}
	})
	return found
}

func (h *history) repeatedWithoutReason() (found []string) {
	h.pairs(func(first, second *delivery, next bool) {
		at := second.handed.at
		nacked := first.settled.happenedBy(at) && first.settled.action == subscription.Nack
		if next && !nacked && !first.expired.happenedBy(at) && !first.wasInterrupted(at) && !h.hadFault(first, at) && !h.settledAfterEnd(first) {
			found = append(found, second.String())
		}
	})
	return found
}

// settledAfterEnd reports whether the outcome came at the moment at which its subscription had ended, or later:
// the lease then ends by itself.
func (h *history) settledAfterEnd(d *delivery) bool {
	end, ended := h.closed[d.subscriber]
	return ended && d.answered != nil && !d.answered.at.Before(end)
}

func (h *history) lostWithoutReason() []string {
	return h.deliveriesWhere(func(d *delivery) bool {
		return d.ended != nil && errors.Is(d.ended.cause, backend.ErrLeaseLost) && !h.mayBeLost(d, d.ended.at)
	})
}

// mayBeLost reports whether there was a reason by then to lose the lease of d.
func (h *history) mayBeLost(d *delivery, then time.Time) bool {
	since := d.claimed.at
	if d.handed != nil && !h.handlersWait {
		since = d.handed.at
	}
	return then.Sub(since) >= h.maxExtension || d.expired.happenedBy(then) || h.hadFault(d, then)
}

func (h *history) repeatedTooSoon() (found []string) {
	h.pairs(func(first, second *delivery, next bool) {
		if !next || first.expired != nil || first.settled == nil || first.settled.action != subscription.Nack {
			return
		}
		if wait := second.handed.at.Sub(first.answered.at); wait < first.answered.delay {
			found = append(found, fmt.Sprintf("%v came after %v, not %v", second, wait, first.answered.delay))
		}
	})
	return found
}

func (h *history) extendedAfterSettlement() []string {
	return h.deliveriesWhere(func(d *delivery) bool { return d.extendedAfterwards })
}

func (h *history) settledDifferently() []string {
	return h.deliveriesWhere(func(d *delivery) bool {
		if d.settled == nil {
			return false
		}
		if !d.answered.happenedBy(d.settled.at) {
			return true
		}
		if d.settled.action == subscription.Nack && d.answered.contextMayEndFirst && d.wasInterrupted(d.answered.at) {
			return false
		}
		if d.answered.action == subscription.DeadLetter && d.settled.action == subscription.Nack && h.hadFault(d, d.settled.at) {
			return d.settled.failures != d.answered.failures // the store refuses the dead letter
		}
		if d.answered.action != d.settled.action {
			return true
		}
		if d.settled.action != subscription.Nack {
			return false
		}
		longer := d.settled.delay - d.answered.delay
		return longer < 0 || longer > d.answered.spread || d.settled.failures != d.answered.failures
	})
}

// settledUnhandled finds messages that no handler has had, and that were not simply released.
func (h *history) settledUnhandled() (found []string) {
	for _, d := range h.deliveries {
		if d.handed != nil || d.settled == nil || d.subscriber == competitor || d.settled.action == subscription.Release {
			continue
		}
		if d.settled.action != subscription.Nack || d.settled.delay != 0 || d.settled.failures != d.claimed.failures {
			found = append(found, d.String())
		}
	}
	return found
}

// neverSettled finds answers that the store has not seen. It excuses those to a subscription
// that did not need to wait for them any more, or whose store was out of order when it ended.
func (h *history) neverSettled() []string {
	const end = 15 * time.Second // what the last calls may take
	return h.deliveriesWhere(func(d *delivery) bool {
		if d.answered == nil || d.settlementSeen {
			return false
		}
		if d.answered.action == subscription.Nack && d.onlyLocked(d.answered.at) && h.mayBeLost(d, h.closed[d.subscriber]) {
			return false // another consumer has it already, and decides
		}
		closed, ended := h.closed[d.subscriber]
		if ended && d.lockLost.happenedBy(closed) && !d.answered.happenedBy(closed) {
			return false // the subscription had lost the message, and did not wait for it
		}
		deadline, ending := h.deadlines[d.subscriber]
		if ending && (h.mayBeLost(d, d.answered.at) || !d.answered.at.Before(deadline)) {
			return false
		}
		last := h.lastCall[d.subscriber].Add(-end)
		if h.paused[d.subscriber] {
			last = d.answered.at
		}
		return !h.hadFaultBetween(d, last, h.closed[d.subscriber])
	})
}

// interruptedLate finds messages whose lock is lost, and whose handler was not interrupted
// at once, or has even got them later: others have had them since.
func (h *history) interruptedLate() []string {
	return h.deliveriesWhere(func(d *delivery) bool {
		return d.lockLost != nil && !d.answered.happenedBy(d.lockLost.at) && !d.ended.happenedBy(d.lockLost.at)
	})
}

// notReleased finds what a subscription has fetched and not handed over, and not released
// when it ended.
func (h *history) notReleased() (found []string) {
	for _, d := range h.deliveries {
		end, ended := h.closed[d.subscriber]
		if !ended || d.handed != nil || d.settlementSeen || h.mayBeLost(d, end) {
			continue
		}
		found = append(found, d.String())
	}
	return found
}

func (h *history) calledAfterEnd() (found []string) {
	for _, e := range h.calls {
		if at, ok := h.closed[e.subscriber]; ok && e.at.After(at) {
			found = append(found, e.String())
		}
	}
	return found
}

func (h *history) redeliveredUncounted() []string {
	return h.deliveriesWhere(func(d *delivery) bool { return d.token.Number > 0 && d.onlyLocked(d.handed.at) })
}

// deliveredUncountedTwice finds messages whose lock was lost, and that are handed over under
// another lock. A consumer that leases such a message and releases it removes what is left of
// the first lock.
func (h *history) deliveredUncountedTwice() (found []string) {
	h.pairs(func(first, second *delivery, _ bool) {
		if first.onlyLocked(first.handed.at) && second.onlyLocked(second.handed.at) && !h.releasedBetween(first, second) {
			found = append(found, fmt.Sprintf("%v after %v", second, first))
		}
	})
	return found
}

func (h *history) releasedBetween(first, second *delivery) bool {
	return slices.ContainsFunc(h.deliveries, func(d *delivery) bool {
		return d.token.ID == first.token.ID && d.settled.happenedBy(second.handed.at) && !d.settled.at.Before(first.handed.at) &&
			d.settled.action == subscription.Release
	})
}

// deliveredOutOfOrder finds what was handed over after what its subscription had fetched later.
func (h *history) deliveredOutOfOrder() (found []string) {
	if h.handlersWait {
		return nil // handlers begin in any order
	}
	at := map[*event]int{}
	for i, d := range h.deliveries {
		if d.handed != nil {
			at[d.handed] = i
		}
	}
	latest := map[string]int{}
	for _, e := range h.handed {
		if i, ok := at[e]; ok {
			if i < latest[e.subscriber] {
				found = append(found, h.deliveries[i].String())
			}
			latest[e.subscriber] = max(latest[e.subscriber], i)
		}
	}
	return found
}

// deliveredWhilePaused allows what happens at the very moment of a pause, or of its end.
func (h *history) deliveredWhilePaused() []string {
	return h.deliveriesWhere(func(d *delivery) bool {
		paused := false
		for i := range h.pauses {
			if e := &h.pauses[i]; e.at.Before(d.handed.at) {
				paused = e.kind == topicPaused
			} else if e.at.Equal(d.handed.at) {
				return false
			}
		}
		return paused
	})
}
