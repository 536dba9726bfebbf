package subscription

import (
	"fmt"
	"iter"
	"time"
)

// refusedAcks is messages that are done, and whose acks the store refuses for now. They stay
// leased, without slots: each of them would be handled again for as long as its ack is
// refused. It has no mutex: that of its [leases] guards it.
type refusedAcks struct {
	byID  map[int64]*held
	cause error     // of the last refusal
	since time.Time // when the first was refused, of those that are left; zero: none was
}

func newRefusedAcks() refusedAcks { return refusedAcks{byID: map[int64]*held{}} }

func (r *refusedAcks) len() int { return len(r.byID) }

func (r *refusedAcks) contains(l *held) bool { return r.byID[l.ID] == l }

// find returns the lease that a token stands for, or nil.
func (r *refusedAcks) find(token Token) *held {
	if l := r.byID[token.ID]; l != nil && l.Token == token {
		return l
	}
	return nil
}

// all returns the messages in any order. Each may be removed when it comes.
func (r *refusedAcks) all() iter.Seq[*held] {
	return func(yield func(*held) bool) {
		for _, l := range r.byID {
			if !yield(l) {
				return
			}
		}
	}
}

// add keeps the message of l, or advances its phase. It reports whether that is new.
func (r *refusedAcks) add(l *held) bool {
	if l.phase == ackRefused && r.since.IsZero() {
		r.since = time.Now()
	}
	if old := r.find(l.Token); old != nil {
		isNew := old.phase < l.phase
		old.phase = max(old.phase, l.phase)
		return isNew
	}
	r.byID[l.ID] = l
	return true
}

func (r *refusedAcks) remove(id int64) {
	delete(r.byID, id)
	if len(r.byID) == 0 {
		r.since = time.Time{}
	}
}

// stored removes the messages of settlements that the store has accepted, or that are given up. Once it has
// accepted an ack that it had refused, it may accept the others, too. If no ack is left, it returns since when
// acks were refused, and else the zero time.
func (r *refusedAcks) stored(batch []Settlement) (since time.Time) {
	accepted, since := false, r.since
	for i := range batch {
		if l := r.find(batch[i].Token); l != nil {
			r.remove(l.ID)
			accepted = accepted || l.phase == ackRefused
		}
	}
	if accepted {
		for _, l := range r.byID {
			l.phase = min(l.phase, ackSuspected)
		}
	}
	if len(r.byID) > 0 {
		return time.Time{}
	}
	return since
}

// areLeased reports whether the store has extended the lease of each since it was added, or cannot
// extend that one: then it cannot lease that message again, either.
func (r *refusedAcks) areLeased() bool {
	for _, l := range r.byID {
		if !l.isLeased && !l.failedAlone {
			return false
		}
	}
	return true
}

// count counts the acks that are refused by themselves.
func (r *refusedAcks) count() (n int) {
	for _, l := range r.byID {
		if l.phase == ackRefused {
			n++
		}
	}
	return n
}

// many reports whether so many acks are refused that it may be the fault of none of them.
func (r *refusedAcks) many() bool { return r.count() >= maxRefused }

// tooMany returns why nothing more is to be fetched: too many acks are refused, or may be.
func (r *refusedAcks) tooMany() error {
	if !r.many() && len(r.byID) < maxRefused+settleBatch {
		return nil
	}
	return fmt.Errorf("the acks of %d messages are refused, and have to be stored first: %w", len(r.byID), r.cause)
}

// newRefusedAck returns a lease without a message, for one that is done. It is extended at once.
func newRefusedAck(owner *leases, token Token, phase phase, now time.Time) *held {
	return &held{
		Lease: Lease{Token: token}, owner: owner, cancel: func(error) {},
		phase: phase, extendAt: now, expiresAt: now.Add(owner.config.Lease),
	}
}
