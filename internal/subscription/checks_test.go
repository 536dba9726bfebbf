package subscription_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/subscription"
)

// broken returns a line for each promise that the story does not keep.
func (s *story) broken() (complaints []string) {
	for promise, check := range promises() {
		for _, what := range check(s) {
			complaints = append(complaints, promise+": "+what)
		}
	}
	slices.Sort(complaints)
	return complaints
}

// which returns the deliveries that were handed over and are as f says.
func (s *story) which(f func(d *delivery) bool) (found []string) {
	for _, d := range s.deliveries {
		if d.handed != nil && f(d) {
			found = append(found, d.String())
		}
	}
	return found
}

func (s *story) repeatedAfterAck() (found []string) {
	s.pairs(func(first, second *delivery, _ bool) {
		if first.settled != nil && first.settled.action == subscription.Ack {
			found = append(found, second.String())
		}
	})
	return found
}

func (s *story) releasedAndDelivered() []string {
	return s.which(func(d *delivery) bool { return d.released })
}

func (s *story) overlaps() (found []string) {
	s.pairs(func(first, second *delivery, _ bool) {
		at := second.handed.at
		if !first.answered.by(at) && !first.ended.by(at) && !first.expired.by(at) {
			found = append(found, fmt.Sprintf("%v while it was %v", second, first))
		}
	})
	return found
}

func (s *story) repeatedForNothing() (found []string) {
	s.pairs(func(first, second *delivery, next bool) {
		at := second.handed.at
		nacked := first.settled.by(at) && first.settled.action == subscription.Nack
		if next && !nacked && !first.expired.by(at) && !first.interrupted(at) && !s.troubled(first, at) && !s.tooLate(first) {
			found = append(found, second.String())
		}
	})
	return found
}

// tooLate is whether the outcome came at the moment at which its subscription had ended, or later:
// the lease then ends by itself.
func (s *story) tooLate(d *delivery) bool {
	end, ended := s.closed[d.who]
	return ended && d.answered != nil && !d.answered.at.Before(end)
}

func (s *story) lostForNothing() []string {
	return s.which(func(d *delivery) bool {
		return d.ended != nil && errors.Is(d.ended.cause, backend.ErrLeaseLost) && !s.mayBeLost(d, d.ended.at)
	})
}

// mayBeLost is whether there was a reason by then to lose the lease of d.
func (s *story) mayBeLost(d *delivery, then time.Time) bool {
	since := d.claimed.at
	if d.handed != nil && !s.waits {
		since = d.handed.at
	}
	return then.Sub(since) >= s.maxExtension || d.expired.by(then) || s.troubled(d, then)
}

func (s *story) tooSoon() (found []string) {
	s.pairs(func(first, second *delivery, next bool) {
		if !next || first.expired != nil || first.settled == nil || first.settled.action != subscription.Nack {
			return
		}
		if wait := second.handed.at.Sub(first.answered.at); wait < first.answered.delay {
			found = append(found, fmt.Sprintf("%v came after %v, not %v", second, wait, first.answered.delay))
		}
	})
	return found
}

func (s *story) extendedWhenOver() []string {
	return s.which(func(d *delivery) bool { return d.revived })
}

func (s *story) misquoted() []string {
	return s.which(func(d *delivery) bool {
		if d.settled == nil {
			return false
		}
		if !d.answered.by(d.settled.at) {
			return true
		}
		if d.settled.action == subscription.Nack && d.answered.hasty && d.interrupted(d.answered.at) {
			return false
		}
		if d.answered.action == subscription.DeadLetter && d.settled.action == subscription.Nack && s.troubled(d, d.settled.at) {
			return d.settled.failed != d.answered.failed // the store refuses the dead letter
		}
		if d.answered.action != d.settled.action {
			return true
		}
		if d.settled.action != subscription.Nack {
			return false
		}
		longer := d.settled.delay - d.answered.delay
		return longer < 0 || longer > d.answered.spread || d.settled.failed != d.answered.failed
	})
}

// judgedUnhandled finds what was decided about messages that no handler has had.
func (s *story) judgedUnhandled() (found []string) {
	for _, d := range s.deliveries {
		if d.handed != nil || d.settled == nil || d.who == competitor || d.settled.action == subscription.Release {
			continue
		}
		if d.settled.action != subscription.Nack || d.settled.delay != 0 || d.settled.failed != d.claimed.failed {
			found = append(found, d.String())
		}
	}
	return found
}

// forgotten excuses what was said to a subscription that did not need to wait
// for it any more, or whose store was out of order when it ended.
func (s *story) forgotten() []string {
	const end = 15 * time.Second // what the last calls may take
	return s.which(func(d *delivery) bool {
		if d.answered == nil || d.told {
			return false
		}
		if d.answered.action == subscription.Nack && d.onlyHeld(d.answered.at) && s.mayBeLost(d, s.closed[d.who]) {
			return false // it is with others already, who decide
		}
		deadline, ending := s.abandons[d.who]
		if ending && (s.mayBeLost(d, d.answered.at) || !d.answered.at.Before(deadline)) {
			return false
		}
		last := s.lastCall[d.who].Add(-end)
		if s.paused[d.who] {
			last = d.answered.at
		}
		return !s.disturbed(d, last, s.closed[d.who])
	})
}

// toldLate finds what was in a hold that is lost, and whose handler has not heard of
// that at once, or has even got it later: others have had the message since.
func (s *story) toldLate() []string {
	return s.which(func(d *delivery) bool {
		return d.unheld != nil && !d.answered.by(d.unheld.at) && !d.ended.by(d.unheld.at)
	})
}

// kept finds what a subscription has claimed and not handed over, and not given back
// when it ended.
func (s *story) kept() (found []string) {
	for _, d := range s.deliveries {
		end, ended := s.closed[d.who]
		if !ended || d.handed != nil || d.told || s.mayBeLost(d, end) {
			continue
		}
		found = append(found, d.String())
	}
	return found
}

func (s *story) undead() (found []string) {
	for _, e := range s.calls {
		if at, ok := s.closed[e.who]; ok && e.at.After(at) {
			found = append(found, e.String())
		}
	}
	return found
}

func (s *story) uncounted() []string {
	return s.which(func(d *delivery) bool { return d.token.Number > 0 && d.onlyHeld(d.handed.at) })
}

// uncountedAgain finds what was in a hold that was lost, and is handed over before it is leased. One
// who leases it and gives it back as if nothing had been, removes what tells of that hold.
func (s *story) uncountedAgain() (found []string) {
	s.pairs(func(first, second *delivery, _ bool) {
		if first.onlyHeld(first.handed.at) && second.onlyHeld(second.handed.at) && !s.releasedBetween(first, second) {
			found = append(found, fmt.Sprintf("%v after %v", second, first))
		}
	})
	return found
}

func (s *story) releasedBetween(first, second *delivery) bool {
	return slices.ContainsFunc(s.deliveries, func(d *delivery) bool {
		return d.token.ID == first.token.ID && d.settled.by(second.handed.at) && !d.settled.at.Before(first.handed.at) &&
			d.settled.action == subscription.Release
	})
}

// overtaken finds what was handed over after what its subscription had fetched later.
func (s *story) overtaken() (found []string) {
	if s.waits {
		return nil // handlers begin in any order
	}
	at := map[*event]int{}
	for i, d := range s.deliveries {
		if d.handed != nil {
			at[d.handed] = i
		}
	}
	latest := map[string]int{}
	for _, e := range s.handed {
		if i, ok := at[e]; ok {
			if i < latest[e.who] {
				found = append(found, s.deliveries[i].String())
			}
			latest[e.who] = max(latest[e.who], i)
		}
	}
	return found
}
