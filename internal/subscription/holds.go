package subscription

import (
	"context"
	"slices"
	"time"
)

// mayHold waits until another hold may begin, where holding pays. It reports whether
// one may.
func (ls *leases) mayHold(ctx context.Context) bool {
	for ctx.Err() == nil {
		wanted, now := ls.wantHold()
		if now {
			return wanted
		}
		select {
		case <-ls.freed:
		case <-ctx.Done():
		}
	}
	return false
}

// wantHold reports whether the next messages are to be held, and whether they can be
// fetched now. After trouble they cannot before the other holds have ended, which may be
// lost as well: the acks of those must be stored before their messages are fetched again.
func (ls *leases) wantHold() (wanted, now bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.isTroubled() {
		ls.endHolds()
		return false, len(ls.holds) == 0
	}
	wanted = ls.config.HoldFor > 0 && !ls.only && ls.habit.hold()
	if !wanted || len(ls.holds) < maxHolds {
		return wanted, true
	}
	ls.holds[0].endWith(len(ls.holds[0].all) / 8)
	return true, false
}

// endHolds has all holds end at once.
func (ls *leases) endHolds() {
	for _, h := range ls.holds {
		signal(h.due)
	}
}

// endWith has a hold end when no more than n of its messages are open.
func (h *hold) endWith(n int) {
	h.enough = n
	if h.open <= n {
		signal(h.due)
	}
}

// addHeld takes messages that are held.
func (ls *leases) addHeld(parent context.Context, h *hold, claimed []Lease) {
	h.all = ls.lease(parent, claimed, h.sent)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.holds = append(ls.holds, h)
	for _, l := range h.all {
		l.hold = h
		h.open++
		ls.insert(l)
	}
}

// settleHeld notes the outcome of a message that is held, and frees its slot. It
// reports whether it was.
func (ls *leases) settleHeld(l *lease, s Settlement) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	h := l.hold
	if h == nil {
		if s.Action == Ack {
			ls.habit.acked(time.Since(l.since) < ls.config.HoldFor/2)
		}
		return false
	}
	ls.config.Counters.Unstored.Add(1)
	h.outcomes = append(h.outcomes, outcome{l, s})
	ls.drop(l)
	return true
}

// mistrusts reports whether holding has failed not long ago.
func (ls *leases) mistrusts() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.isTroubled()
}

func (ls *leases) isTroubled() bool { return time.Since(ls.trouble) <= mistrust }

// troubled notes that holding has failed just now.
func (ls *leases) troubled() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.trouble = time.Now()
}

// leave takes a message out of its hold, which gives it back.
func (ls *leases) leave(l *lease) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l.hold == nil || l.hold.closed {
		return false
	}
	l.fate = left
	ls.config.Counters.Released.Add(1)
	ls.drop(l)
	return true
}

// split returns what a hold ends with. Outcomes from now on are late.
func (ls *leases) split(h *hold) (acked, rest []*lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	h.closed = true
	acked = make([]*lease, 0, len(h.outcomes))
	for _, o := range h.outcomes {
		if o.Action == Ack && o.of.fate == undecided {
			o.of.fate = removed
			acked = append(acked, o.of)
		}
	}
	for _, l := range h.all {
		if l.fate == undecided {
			rest = append(rest, l)
		}
	}
	ls.habit.held(len(acked), len(rest))
	return acked, rest
}

// leased notes that a hold has ended, and what it has leased.
func (ls *leases) leased(h *hold, rest []*lease, tokens []Token, acked int, sent time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.speed.add(acked, time.Now())
	for i, l := range rest {
		l.Token = tokens[i]
		l.extended(sent, ls.config.Lease)
	}
	h.release()
	signal(ls.gained)
}

// broken notes that a hold has failed. Its messages are with others. What has broken it may
// break the other one, too.
func (ls *leases) broken(h *hold) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.trouble = time.Now()
	ls.endHolds()
	for _, l := range h.all {
		ls.lose(l)
	}
	h.release()
}

// release notes that there are no more outcomes for h to keep.
func (h *hold) release() {
	for _, l := range h.all {
		l.hold = nil
	}
}

// forget makes room for another hold. What h leaves to be stored is known by then.
func (ls *leases) forget(h *hold) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	defer signal(ls.freed)
	ls.holds = slices.DeleteFunc(ls.holds, func(x *hold) bool { return x == h })
}
