package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// schedules implements [backend.Schedules].
type schedules struct{ broker *Broker }

func (s schedules) List(context.Context) (all []backend.ScheduleState, err error) {
	if err := s.broker.checkOpen(); err != nil {
		return nil, err
	}
	topics := s.broker.topics
	topics.mu.Lock()
	defer topics.mu.Unlock()
	now := time.Now()
	for name, known := range topics.ticks {
		all = append(all, backend.ScheduleState{Name: name, Last: known.last, Next: known.next, Paused: known.pauseAt(now)})
	}
	slices.SortFunc(all, func(a, b backend.ScheduleState) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (s schedules) Pause(_ context.Context, name string, p backend.Pause) (backend.Paused, error) {
	if err := s.broker.checkOpen(); err != nil {
		return backend.Paused{}, err
	}
	topics := s.broker.topics
	topics.mu.Lock()
	defer topics.mu.Unlock()
	known, ok := topics.ticks[name]
	invalid := p.Check()
	if invalid == nil && !ok {
		invalid = backend.UnknownSchedule(name)
	}
	if invalid != nil {
		return backend.Paused{}, fmt.Errorf("memory: pause the schedule %q: %w", excerpt.Of(name), invalid)
	}
	now := time.Now()
	wanted := p.Since(now)
	if held := known.pauseAt(now); held != nil && !wanted.Outlasts(*held) {
		return *held, nil
	}
	known.pause(wanted)
	return wanted, nil
}

func (s schedules) Resume(_ context.Context, name string) (resumed bool, err error) {
	if err := s.broker.checkOpen(); err != nil {
		return false, err
	}
	topics := s.broker.topics
	topics.mu.Lock()
	defer topics.mu.Unlock()
	known, ok := topics.ticks[name]
	now := time.Now()
	if !ok || known.pauseAt(now) == nil {
		return false, nil
	}
	known.paused.Until = now // it is not forgotten: a tick that has passed in it may come late
	return true, nil
}
