package ezqtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
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

func checkSteering(t *testing.T, f *ezqtest.Flow, client backend.Backend) {
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

func checkSteeringOfDeadLetters(t *testing.T, f *ezqtest.Flow, client backend.Backend) {
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
	for name, check := range map[string]func(*testing.T, *ezqtest.Flow, backend.Backend){"events": checkSteering, "dead letters": checkSteeringOfDeadLetters} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var client backend.Backend
			ezqtest.Run(t, steeredBilling(&client), func(f *ezqtest.Flow) { check(t, f, client) })
		})
		t.Run(name+" on PGMQ", func(t *testing.T) {
			t.Parallel()
			var client backend.Backend
			ezqtest.RunOn(t, pgmqtest.Open(t, pgtest.Database(t), nil), steeredBilling(&client), func(f *ezqtest.Flow) { check(t, f, client) })
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
