package ezqtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq/pgmqtest"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// steerable is what programs may want of their client besides.
type steerable interface {
	backend.Finder
	backend.Canceller
	backend.Rescheduler
	backend.Pauser
	backend.DeadLetterStore
	backend.Scheduler
}

// steeredBilling is billing, and returns the client that it was built with.
func steeredBilling(client *backend.Backend) func(backend.Backend) *ezq.Router {
	return func(on backend.Backend) *ezq.Router {
		*client = on
		return billing(on)
	}
}

func checkSteering(t *testing.T, f *ezqtest.Flow, client backend.Backend, isPaused func() bool) {
	t.Helper()
	ctx := f.Context()
	steered, ok := client.(steerable)
	require.True(t, ok)

	f.Publish(reminderDue{1}, ezq.ID("one"), ezq.Delay(time.Hour))
	f.Publish(reminderDue{2}, ezq.Unique("two"), ezq.Delay(time.Hour))
	cancelled, err := steered.Cancel(ctx, ezq.DefaultTopic, backend.Selection{ID: "one"})
	require.NoError(t, err)
	require.Equal(t, backend.Cancelled{Removed: 1}, cancelled)
	rescheduled, err := steered.Reschedule(ctx, ezq.DefaultTopic, backend.Selection{UniqueKey: "two"}, time.Time{})
	require.NoError(t, err)
	require.Equal(t, backend.Rescheduled{Moved: 1}, rescheduled)
	f.AwaitIdle()
	ezqtest.Handled[reminderDue](f).Equal(reminderDue{2})

	_, err = steered.Pause(ctx, ezq.DefaultTopic, backend.Pause{By: "ada", Reason: "maintenance"})
	require.NoError(t, err)
	pgtest.Eventually(t, 30*time.Second, "the consumers know of the pause", isPaused)
	f.Publish(reminderDue{3}, ezq.ID("three"), ezq.Delay(time.Minute))
	f.Advance(time.Hour) // and what is paused is not waited for
	ezqtest.Handled[reminderDue](f).Equal(reminderDue{2})
	found, err := steered.Find(ctx, ezq.DefaultTopic, backend.Selection{Field: "Order", Equals: 3})
	require.NoError(t, err)
	require.Len(t, found, 1)
	pauses, err := steered.Pauses(ctx, ezq.DefaultTopic)
	require.NoError(t, err)
	require.Len(t, pauses, 1)
	_, err = steered.Resume(ctx, ezq.DefaultTopic)
	require.NoError(t, err)
	f.AwaitIdle()
	ezqtest.Handled[reminderDue](f).Equal(reminderDue{2}, reminderDue{3})
	_, err = steered.Schedules().List(ctx)
	require.NoError(t, err)
}

func checkSteeringOfDeadLetters(t *testing.T, f *ezqtest.Flow, client backend.Backend, _ func() bool) {
	t.Helper()
	ctx, from := f.Context(), ezq.DefaultTopic+backend.DeadLetterSuffix
	store, ok := client.(backend.DeadLetterStore)
	require.True(t, ok)
	f.Publish(orderPaid{-1}, ezq.ID("lost"))
	f.Publish(orderPaid{-2}, ezq.ID("purged"))
	f.Advance(3 * time.Hour)
	ezqtest.DeadLettered[orderPaid](f).Times(2)
	purged, err := store.PurgeDeadLetters(ctx, from, backend.DeadLetterSelection{ID: "purged"})
	require.NoError(t, err)
	require.Equal(t, 1, purged.Removed)
	letters, err := store.DeadLetters(ctx, from, backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, letters, 1)
	counts, err := store.CountDeadLetters(ctx, from, backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Len(t, counts, 1)
	require.NoError(t, store.EditDeadLetter(ctx, from, backend.DeadLetterEdit{
		Row: letters[0].Row, Version: letters[0].Version(), By: "ada", Payload: []byte(`{"_type":"orderPaid","Order":4}`),
	}))
	redriven, err := store.Redrive(ctx, from, backend.DeadLetterSelection{})
	require.NoError(t, err)
	require.Equal(t, backend.Redriven{Moved: 1}, redriven)
	f.AwaitIdle()
	ezqtest.Handled[orderPaid](f).Equal(orderPaid{4})
}

// Whatever the backend of a program can do, the one that a flow gives it can do too, and the flow knows what waits then.
func TestRun_ClientCanBeSteered(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(*testing.T, *ezqtest.Flow, backend.Backend, func() bool){"events": checkSteering, "dead letters": checkSteeringOfDeadLetters} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var client backend.Backend
			ezqtest.Run(t, steeredBilling(&client), func(f *ezqtest.Flow) { check(t, f, client, func() bool { return true }) })
		})
		t.Run(name+" on PGMQ", func(t *testing.T) {
			t.Parallel()
			var client backend.Backend
			on := pgmqtest.Open(t, pgtest.Database(t), nil)
			isPaused := func() bool { return on.Stats()[ezq.DefaultTopic].TopicPause != nil }
			ezqtest.RunOn(t, on, steeredBilling(&client), func(f *ezqtest.Flow) { check(t, f, client, isPaused) })
		})
	}
}

func TestRun_KnowsThatAnEventWasStopped(t *testing.T) {
	t.Parallel()
	var client backend.Backend
	begun := make(chan struct{}, 9)
	build := func(on backend.Backend) *ezq.Router {
		client = on
		router := ezq.NewRouter(on, &quiet)
		ezq.Handle(router, func(ctx context.Context, _ orderPaid) error {
			begun <- struct{}{}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		return router
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		f.Publish(orderPaid{1}, ezq.ID("one"))
		<-begun
		canceller, ok := client.(backend.Canceller)
		require.True(t, ok)
		cancelled, err := canceller.CancelRunning(f.Context(), ezq.DefaultTopic, backend.Selection{ID: "one"})
		require.NoError(t, err)
		require.Equal(t, backend.Cancelled{Stopped: 1}, cancelled)
		f.Advance(time.Hour)
		require.Empty(t, begun)
	})
}

// lateFinder finds a message as it was when it had been rescheduled, and returns when it has been handled.
type lateFinder struct {
	*memory.Broker

	before *[]backend.Found
}

func (l lateFinder) Find(ctx context.Context, topic string, chosen backend.Selection) ([]backend.Found, error) {
	if *l.before == nil {
		found, err := l.Broker.Find(ctx, topic, chosen)
		*l.before = found
		return found, err
	}
	for {
		if found, err := l.Broker.Find(ctx, topic, chosen); err != nil || len(found) == 0 {
			(*l.before)[0].State, (*l.before)[0].VisibleAt = backend.StateWaiting, time.Now()
			return *l.before, err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestRun_WhatWasHandledMeanwhileDoesNotWait(t *testing.T) {
	t.Parallel()
	var client backend.Backend
	on := lateFinder{memory.New(nil), new([]backend.Found)}
	ezqtest.RunOn(t, on, steeredBilling(&client), func(f *ezqtest.Flow) {
		f.Publish(reminderDue{1}, ezq.Unique("one"), ezq.Delay(time.Hour))
		rescheduler, ok := client.(backend.Rescheduler)
		require.True(t, ok)
		_, err := rescheduler.Reschedule(f.Context(), ezq.DefaultTopic, backend.Selection{UniqueKey: "one"}, time.Time{})
		require.NoError(t, err)
		f.AwaitIdle()
		ezqtest.Handled[reminderDue](f).Equal(reminderDue{1})
	})
}

// slowRescheduler says that a message is on its way to a consumer, where it comes a little later.
type slowRescheduler struct{ *memory.Broker }

func (s slowRescheduler) Reschedule(ctx context.Context, topic string, chosen backend.Selection, at time.Time) (backend.Rescheduled, error) {
	time.AfterFunc(100*time.Millisecond, func() { _, _ = s.Broker.Reschedule(ctx, topic, chosen, at) })
	return backend.Rescheduled{Moved: 1}, nil
}

func (s slowRescheduler) Find(ctx context.Context, topic string, chosen backend.Selection) ([]backend.Found, error) {
	found, err := s.Broker.Find(ctx, topic, chosen)
	for i := range found {
		found[i].State, found[i].VisibleAt = backend.StateDelivered, time.Now().Add(time.Hour)
	}
	return found, err
}

func TestRun_WaitsForWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	var client backend.Backend
	ezqtest.RunOn(t, slowRescheduler{memory.New(nil)}, steeredBilling(&client), func(f *ezqtest.Flow) {
		f.Publish(reminderDue{1}, ezq.Unique("one"), ezq.Delay(time.Hour))
		rescheduler, ok := client.(backend.Rescheduler)
		require.True(t, ok)
		_, err := rescheduler.Reschedule(f.Context(), ezq.DefaultTopic, backend.Selection{UniqueKey: "one"}, time.Time{})
		require.NoError(t, err)
		f.AwaitIdle()
		ezqtest.Handled[reminderDue](f).Equal(reminderDue{1})
	})
}
