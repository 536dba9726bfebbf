package subscription

import (
	"iter"
	"slices"
)

// table is the messages that a subscription has fetched and that are neither settled
// nor lost. It has no mutex: that of its [leases] guards it.
type table struct {
	byID    map[int64]*held
	waiting []*held // those that wait for a slot, oldest fetch first
}

func newTable() table { return table{byID: map[int64]*held{}} }

func (t *table) len() int { return len(t.byID) }

// contains reports whether l itself is there, and not only its message.
func (t *table) contains(l *held) bool { return t.byID[l.ID] == l }

// find returns the lease that a token stands for, or nil.
func (t *table) find(token Token) *held {
	if l := t.byID[token.ID]; l != nil && l.Token == token {
		return l
	}
	return nil
}

// all returns the messages in any order. Each may be removed when it comes.
func (t *table) all() iter.Seq[*held] {
	return func(yield func(*held) bool) {
		for _, l := range t.byID {
			if !yield(l) {
				return
			}
		}
	}
}

func (t *table) insert(l *held) {
	t.byID[l.ID] = l
	if l.phase == waiting {
		t.waiting = append(t.waiting, l)
	}
}

func (t *table) remove(l *held) {
	delete(t.byID, l.ID)
	if l.phase == waiting {
		t.waiting = slices.DeleteFunc(t.waiting, func(x *held) bool { return x == l })
	}
}

// next takes the message that has waited longest, to be sent to the channel.
func (t *table) next() *held {
	if len(t.waiting) == 0 {
		return nil
	}
	l := t.waiting[0]
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
	l.phase = sending
	return l
}

// putBack undoes next.
func (t *table) putBack(l *held) {
	l.phase = waiting
	t.waiting = slices.Insert(t.waiting, 0, l)
}
