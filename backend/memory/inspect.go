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

// Bindings implements [backend.Inspector]: those of all groups.
func (i inspector) Bindings(context.Context) ([]backend.Binding, error) {
	if err := i.broker.checkOpen(); err != nil {
		return nil, err
	}
	return bindingsOf(i.broker.topics), nil
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
	return peek(i.broker.topics, topic, p.Group, after, cmp.Or(p.Limit, backend.DefaultPeekLimit)), nil
}

// allQueues returns the queues of all topics and groups, in the order of their names. The mutex of the topics is held.
func allQueues(ts *topics) (all []*queue) {
	for _, t := range ts.byName {
		all = append(all, t.queues()...)
	}
	slices.SortFunc(all, func(a, b *queue) int {
		return cmp.Or(cmp.Compare(a.topic.name, b.topic.name), cmp.Compare(a.group, b.group))
	})
	return all
}

// statesOf returns the states of all queues that are there.
func statesOf(ts *topics, now time.Time) []backend.QueueState {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	states := make([]backend.QueueState, 0, len(ts.byName))
	for _, q := range allQueues(ts) {
		if q.there {
			states = append(states, stateOf(q, now))
		}
	}
	return states
}

// bindingsOf returns the bindings of all groups.
func bindingsOf(ts *topics) (all []backend.Binding) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, q := range allQueues(ts) {
		if q.there && q.group != "" {
			all = append(all, backend.Binding{Topic: q.topic.name, Group: q.group, Queue: q.label()})
		}
	}
	return all
}

// stateOf returns the state of a queue.
func stateOf(q *queue, now time.Time) backend.QueueState {
	s := backend.QueueState{Queue: q.label(), Topic: q.topic.name, Group: q.group, Added: q.lastID, Removed: q.lastID - int64(len(q.entries))}
	for _, e := range q.entries {
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

// pausesOf returns the pauses that hold.
func pausesOf(ts *topics) (all []backend.Paused) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, q := range allQueues(ts) {
		if q.pause.current != nil {
			all = append(all, *q.pause.current)
		}
	}
	return all
}

// peek returns up to limit of the messages of a topic's own queue, or of that of a group, in the order in which they are due, behind a
// place.
func peek(ts *topics, name, group string, after backend.PeekPlace, limit int) []backend.Peeked {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	queues := allQueues(ts)
	at := slices.IndexFunc(queues, func(q *queue) bool { return q.topic.name == name && q.group == group })
	if at < 0 {
		return nil
	}
	in, now := place{queue: queues[at]}, time.Now()
	switch {
	case group != "":
		in.at = backend.InGroup
	case strings.HasSuffix(name, backend.DeadLetterSuffix):
		in.at = backend.InDeadLetters
	}
	var found []backend.Peeked
	room := backend.MaxPeekPayloads
	for _, e := range behind(in.queue, after, limit) {
		f := e.found(in, name, now)
		if room -= len(f.Payload); room < 0 {
			f.Payload = nil
		}
		found = append(found, backend.Peeked{Found: f, After: placeOf(e).String()})
	}
	return found
}

// behind returns up to limit entries behind a place, in their order.
func behind(q *queue, after backend.PeekPlace, limit int) []*entry {
	var all []*entry
	for _, e := range q.entries {
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
