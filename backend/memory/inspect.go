package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// inspector has the methods of [backend.Inspector] of a [Broker].
type inspector struct{ broker *Broker }

var _ backend.Inspector = (*Broker)(nil)

// QueueStates implements [backend.Inspector].
func (i inspector) QueueStates(context.Context) ([]backend.QueueState, error) {
	if err := i.broker.checkOpen(); err != nil {
		return nil, err
	}
	return statesOf(i.broker.topics, time.Now()), nil
}

// Bindings implements [backend.Inspector]. A Broker has none.
func (i inspector) Bindings(context.Context) ([]backend.Binding, error) {
	return nil, i.broker.checkOpen()
}

// AllPauses implements [backend.Inspector].
func (i inspector) AllPauses(context.Context) ([]backend.Paused, error) {
	if err := i.broker.checkOpen(); err != nil {
		return nil, err
	}
	return pausesOf(i.broker.topics), nil
}

// Peek implements [backend.Inspector].
func (i inspector) Peek(_ context.Context, topic string, p backend.Peek) ([]backend.Peeked, error) {
	if err := i.broker.checkSelection("peek", topic, p.Check()); err != nil {
		return nil, err
	}
	after, err := backend.ParsePeekPlace(p.After)
	if err != nil {
		return nil, fmt.Errorf("memory: peek in %q: %w", excerpt.Of(topic), err)
	}
	return peek(i.broker.topics, topic, after, cmp.Or(p.Limit, backend.DefaultPeekLimit)), nil
}

// statesOf returns the states of all topics, in the order of their names.
func statesOf(ts *topics, now time.Time) []backend.QueueState {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	states := make([]backend.QueueState, 0, len(ts.byName))
	for name, t := range ts.byName {
		states = append(states, stateOf(t, name, now))
	}
	slices.SortFunc(states, func(a, b backend.QueueState) int { return cmp.Compare(a.Topic, b.Topic) })
	return states
}

// stateOf returns the state of the topic of that name.
func stateOf(t *topic, name string, now time.Time) backend.QueueState {
	s := backend.QueueState{Queue: name, Topic: name, Added: t.lastID, Removed: t.lastID - int64(len(t.entries))}
	for _, e := range t.entries {
		if !e.visible.After(now) {
			s.Waiting++
			s.Oldest = max(s.Oldest, now.Sub(e.visible))
			continue
		}
		s.Invisible++
		if s.NextDue.IsZero() || e.visible.Before(s.NextDue) {
			s.NextDue = e.visible
		}
	}
	s.WaitingCapped, s.InvisibleCapped = s.Waiting > backend.MaxQueueCount, s.Invisible > backend.MaxQueueCount
	s.Waiting, s.Invisible = min(s.Waiting, backend.MaxQueueCount), min(s.Invisible, backend.MaxQueueCount)
	return s
}

// pausesOf returns the pauses that hold, in the order of their topics.
func pausesOf(ts *topics) (all []backend.Paused) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.byName {
		if t.pause.current != nil {
			all = append(all, *t.pause.current)
		}
	}
	slices.SortFunc(all, func(a, b backend.Paused) int { return cmp.Compare(a.Topic, b.Topic) })
	return all
}

// peek returns up to limit of the messages of a topic, in the order in which they are due, behind a place.
func peek(ts *topics, name string, after backend.PeekPlace, limit int) []backend.Peeked {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.byName[name]
	if !ok {
		return nil
	}
	place, now := backend.InTopic, time.Now()
	if strings.HasSuffix(name, backend.DeadLetterSuffix) {
		place = backend.InDeadLetters
	}
	var found []backend.Peeked
	room := backend.MaxPeekPayloads
	for _, e := range behind(t, after, limit) {
		f := e.found(place, name, now)
		if room -= len(f.Payload); room < 0 {
			f.Payload = nil
		}
		found = append(found, backend.Peeked{Found: f, After: placeOf(e).String()})
	}
	return found
}

// behind returns up to limit entries behind a place, in their order.
func behind(t *topic, after backend.PeekPlace, limit int) []*entry {
	var all []*entry
	for _, e := range t.entries {
		if p := placeOf(e); p.Due > after.Due || p.Due == after.Due && p.Row > after.Row {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.visible.UnixMicro(), b.visible.UnixMicro()), cmp.Compare(a.id, b.id))
	})
	return all[:min(limit, len(all))]
}

// placeOf returns where e is in its topic. Times count as PostgreSQL has them, in microseconds.
func placeOf(e *entry) backend.PeekPlace {
	return backend.PeekPlace{Due: e.visible.UnixMicro(), Row: e.id}
}
