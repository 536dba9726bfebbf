package ezqtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// steered is a recordingBackend with all that a backend may be able to do besides. It passes that on to the backend,
// and notes what waits afterwards. What the backend cannot do is an error that matches [errors.ErrUnsupported].
type steered struct{ *recordingBackend }

var (
	_ backend.Finder               = steered{}
	_ backend.Canceller            = steered{}
	_ backend.Rescheduler          = steered{}
	_ backend.GroupPauser          = steered{}
	_ backend.DeadLetterStore      = steered{}
	_ backend.Scheduler            = steered{}
	_ backend.Inspector            = steered{}
	_ backend.Checker              = steered{}
	_ message.SubscribeInitializer = steered{}
)

// as returns the backend as what can do more than a backend must.
func as[T any](on backend.Backend) (can T, err error) {
	can, ok := on.(T)
	if !ok {
		err = fmt.Errorf("ezqtest: %T is no %v: %w", on, reflect.TypeFor[T](), errors.ErrUnsupported)
	}
	return can, err
}

// isSteerable reports whether a backend can do anything that a backend need not.
func isSteerable(on backend.Backend) bool {
	switch on.(type) {
	case backend.Finder, backend.Canceller, backend.Rescheduler, backend.Pauser, backend.DeadLetterStore, backend.Scheduler, backend.Inspector, backend.Checker, message.SubscribeInitializer:
		return true
	}
	return false
}

// Find implements [backend.Finder].
func (s steered) Find(ctx context.Context, topic string, chosen backend.Selection) ([]backend.Found, error) {
	finder, err := as[backend.Finder](s.Backend)
	if err != nil {
		return nil, err
	}
	return finder.Find(ctx, topic, chosen)
}

// Cancel implements [backend.Canceller].
func (s steered) Cancel(ctx context.Context, topic string, chosen backend.Selection) (done backend.Cancelled, err error) {
	canceller, err := as[backend.Canceller](s.Backend)
	if err != nil {
		return done, err
	}
	ids := s.idsOf(ctx, topic, chosen)
	done, err = canceller.Cancel(ctx, topic, chosen)
	s.look(ctx, topic, ids)
	return done, err
}

// CancelRunning implements [backend.Canceller].
func (s steered) CancelRunning(ctx context.Context, topic string, chosen backend.Selection) (done backend.Cancelled, err error) {
	canceller, err := as[backend.Canceller](s.Backend)
	if err != nil {
		return done, err
	}
	ids := s.idsOf(ctx, topic, chosen)
	done, err = canceller.CancelRunning(ctx, topic, chosen)
	s.look(ctx, topic, ids)
	return done, err
}

// Reschedule implements [backend.Rescheduler].
func (s steered) Reschedule(ctx context.Context, topic string, chosen backend.Selection, at time.Time) (done backend.Rescheduled, err error) {
	rescheduler, err := as[backend.Rescheduler](s.Backend)
	if err != nil {
		return done, err
	}
	ids := s.idsOf(ctx, topic, chosen)
	done, err = rescheduler.Reschedule(ctx, topic, chosen, at)
	s.look(ctx, topic, ids)
	return done, err
}

// Pause implements [backend.Pauser].
func (s steered) Pause(ctx context.Context, topic string, p backend.Pause) (paused backend.Paused, err error) {
	pauser, err := as[backend.Pauser](s.Backend)
	if err != nil {
		return paused, err
	}
	paused, err = pauser.Pause(ctx, topic, p)
	if err == nil {
		s.update(func() { s.paused[place{topic, s.group}] = paused })
	}
	return paused, err
}

// Resume implements [backend.Pauser].
func (s steered) Resume(ctx context.Context, topic string) (resumed bool, err error) {
	pauser, err := as[backend.Pauser](s.Backend)
	if err != nil {
		return false, err
	}
	resumed, err = pauser.Resume(ctx, topic)
	if err == nil {
		s.update(func() { delete(s.paused, place{topic, s.group}) })
	}
	return resumed, err
}

// Pauses implements [backend.Pauser].
func (s steered) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	pauser, err := as[backend.Pauser](s.Backend)
	if err != nil {
		return nil, err
	}
	return pauser.Pauses(ctx, topic)
}

// PauserOf implements [backend.GroupPauser].
func (s steered) PauserOf(group string) backend.Pauser {
	var of backend.Backend = groupless{s.Backend}
	if pausers, ok := s.Backend.(backend.GroupPauser); ok {
		of = grouped{s.Backend, pausers.PauserOf(group)}
	}
	return steered{&recordingBackend{Backend: of, recorder: s.recorder, group: group}}
}

// grouped is a backend that pauses a group.
type grouped struct {
	backend.Backend
	backend.Pauser
}

// groupless is a backend that pauses no single group.
type groupless struct{ backend.Backend }

// DeadLetters implements [backend.DeadLetterStore].
func (s steered) DeadLetters(ctx context.Context, from string, chosen backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
	store, err := as[backend.DeadLetterStore](s.Backend)
	if err != nil {
		return nil, err
	}
	return store.DeadLetters(ctx, from, chosen)
}

// CountDeadLetters implements [backend.DeadLetterStore].
func (s steered) CountDeadLetters(ctx context.Context, from string, chosen backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	store, err := as[backend.DeadLetterStore](s.Backend)
	if err != nil {
		return nil, err
	}
	return store.CountDeadLetters(ctx, from, chosen)
}

// Redrive implements [backend.DeadLetterStore].
func (s steered) Redrive(ctx context.Context, from string, chosen backend.DeadLetterSelection) (done backend.Redriven, err error) {
	store, err := as[backend.DeadLetterStore](s.Backend)
	if err != nil {
		return done, err
	}
	letters := lettersOf(ctx, store, from, chosen)
	done, err = store.Redrive(ctx, from, chosen)
	for _, d := range letters {
		s.look(ctx, from, []string{d.ID})
		if d.Topic != "" {
			s.look(ctx, d.Topic, []string{d.ID})
		}
	}
	return done, err
}

// PurgeDeadLetters implements [backend.DeadLetterStore].
func (s steered) PurgeDeadLetters(ctx context.Context, from string, chosen backend.DeadLetterSelection) (done backend.Purged, err error) {
	store, err := as[backend.DeadLetterStore](s.Backend)
	if err != nil {
		return done, err
	}
	letters := lettersOf(ctx, store, from, chosen)
	done, err = store.PurgeDeadLetters(ctx, from, chosen)
	for _, d := range letters {
		s.look(ctx, from, []string{d.ID})
	}
	return done, err
}

// EditDeadLetter implements [backend.DeadLetterStore].
func (s steered) EditDeadLetter(ctx context.Context, from string, e backend.DeadLetterEdit) error {
	store, err := as[backend.DeadLetterStore](s.Backend)
	if err != nil {
		return err
	}
	return store.EditDeadLetter(ctx, from, e)
}

// Schedules implements [backend.Scheduler].
func (s steered) Schedules() backend.Schedules {
	scheduler, err := as[backend.Scheduler](s.Backend)
	if err != nil {
		return noSchedules{err}
	}
	return scheduler.Schedules()
}

// QueueStates implements [backend.Inspector].
func (s steered) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	inspector, err := as[backend.Inspector](s.Backend)
	if err != nil {
		return nil, err
	}
	return inspector.QueueStates(ctx)
}

// Bindings implements [backend.Inspector].
func (s steered) Bindings(ctx context.Context) ([]backend.Binding, error) {
	inspector, err := as[backend.Inspector](s.Backend)
	if err != nil {
		return nil, err
	}
	return inspector.Bindings(ctx)
}

// AllPauses implements [backend.Inspector].
func (s steered) AllPauses(ctx context.Context) ([]backend.Paused, error) {
	inspector, err := as[backend.Inspector](s.Backend)
	if err != nil {
		return nil, err
	}
	return inspector.AllPauses(ctx)
}

// Peek implements [backend.Inspector].
func (s steered) Peek(ctx context.Context, topic string, p backend.Peek) ([]backend.Peeked, error) {
	inspector, err := as[backend.Inspector](s.Backend)
	if err != nil {
		return nil, err
	}
	return inspector.Peek(ctx, topic, p)
}

// Check implements [backend.Checker].
func (s steered) Check(ctx context.Context) ([]backend.Finding, error) {
	checker, err := as[backend.Checker](s.Backend)
	if err != nil {
		return nil, err
	}
	return checker.Check(ctx)
}

// SubscribeInitialize implements [message.SubscribeInitializer].
func (s steered) SubscribeInitialize(topic string) error {
	initializer, err := as[message.SubscribeInitializer](s.Backend)
	if err != nil {
		return err
	}
	if err := initializer.SubscribeInitialize(topic); err != nil {
		return err
	}
	s.update(func() { s.declare(place{topic, s.group}) })
	return nil
}

// noSchedules is the schedules of a backend that has none.
type noSchedules struct{ err error }

func (n noSchedules) List(context.Context) ([]backend.ScheduleState, error) { return nil, n.err }

func (n noSchedules) Pause(context.Context, string, backend.Pause) (backend.Paused, error) {
	return backend.Paused{}, n.err
}

func (n noSchedules) Resume(context.Context, string) (bool, error) { return false, n.err }

// idsOf returns the IDs of the messages that are chosen.
func (s steered) idsOf(ctx context.Context, topic string, chosen backend.Selection) (ids []string) {
	if chosen.ID != "" {
		return []string{chosen.ID}
	}
	chosen.Limit = math.MaxInt32
	found, _ := s.Find(ctx, topic, chosen) // what fails, fails in what the test has called, too
	for _, f := range found {
		ids = append(ids, f.ID)
	}
	return ids
}

// lettersOf returns the dead letters that may be chosen.
func lettersOf(ctx context.Context, store backend.DeadLetterStore, from string, chosen backend.DeadLetterSelection) []backend.FoundDeadLetter {
	chosen.Limit = math.MaxInt32
	letters, _ := store.DeadLetters(ctx, from, chosen) // what fails, fails in what the test has called, too
	return letters
}

// look asks the backend for messages that may have been deleted or moved, and notes what waits of them.
func (s steered) look(ctx context.Context, topic string, ids []string) {
	for _, id := range ids {
		for _, at := range s.topicsOf(id, topic) {
			asked := s.placesAsked(at, id)
			found, err := s.Find(ctx, at, backend.Selection{ID: id})
			if err != nil {
				continue // and the rest is noted when it is delivered
			}
			for p, deliveries := range asked {
				s.note(p, at, id, slices.DeleteFunc(slices.Clone(found), func(f backend.Found) bool {
					return f.Place != backend.InTopic && f.Place != backend.InGroup || !s.liesIn(p, f)
				}), deliveries)
			}
		}
	}
}
