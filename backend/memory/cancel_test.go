package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func cancel(t *testing.T, b *memory.Broker, s backend.Selection) backend.Cancelled {
	t.Helper()
	cancelled, err := b.Cancel(t.Context(), "topic", s)
	require.NoError(t, err)
	return cancelled
}

func TestCancel_DeletesWhatWaitsAndFreesItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		unique := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k"} }
		publishOn(t, b, "a", unique(), time.Hour)
		require.Equal(t, backend.Cancelled{}, cancel(t, b, backend.Selection{ID: "b", UniqueKey: "k"}))
		require.Equal(t, backend.Cancelled{Removed: 1}, cancel(t, b, backend.Selection{UniqueKey: "k"}), "while it is delayed")
		require.Zero(t, b.Size("topic"))
		require.Equal(t, backend.PublishStored, publishOn(t, b, "b", unique(), 0).Outcome)
		require.Equal(t, backend.Cancelled{Removed: 1}, cancel(t, b, backend.Selection{ID: "b"}), "while it is due")
		require.Equal(t, backend.Cancelled{}, cancel(t, b, backend.Selection{ID: "b"}))

		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		publishOn(t, b, "c", unique(), time.Minute)
		time.Sleep(time.Second)
		require.Equal(t, backend.Cancelled{Removed: 1}, cancel(t, b, backend.Selection{ID: "c"}), "while a consumer waits for it")
		time.Sleep(time.Hour)
		require.Empty(t, in)
	})
}

func TestCancel_LeavesWhatMayBeHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		publishOn(t, b, "a", &backend.PublishCondition{UniqueKey: "k"}, 0)
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		msg := receive(t, in)
		require.Equal(t, backend.Cancelled{Busy: 1}, cancel(t, b, backend.Selection{UniqueKey: "k"}), "while it is handled")
		backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
		synctest.Wait()
		require.Equal(t, backend.Cancelled{Busy: 1}, cancel(t, b, backend.Selection{UniqueKey: "k"}), "in the pause after a failure")
		msg = receive(t, in)
		backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Uncounted: true, Failures: 1})
		synctest.Wait()
		require.Equal(t, backend.StateDelivered, requireFound(t, b, backend.Selection{ID: "a"}).State, "one of its deliveries counts")
		backend.DeadLetter(receive(t, in), backend.DeadLetterTarget{Topic: "topic_dead"})
		synctest.Wait()
		require.Equal(t, backend.Cancelled{}, cancel(t, b, backend.Selection{ID: "a"}), "a dead letter")
		require.Equal(t, 1, b.Size("topic_dead"))
	})
}

func TestCancel_DeletesWhatIsSnoozed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		require.NoError(t, b.Publish("topic", message.NewMessage("a", nil)))
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		backend.Nack(receive(t, in), backend.Redelivery{Delay: time.Hour, Uncounted: true})
		synctest.Wait()
		require.Equal(t, backend.StateDelayed, requireFound(t, b, backend.Selection{ID: "a"}).State)
		require.Equal(t, backend.Cancelled{Removed: 1}, cancel(t, b, backend.Selection{ID: "a"}))
	})
}

func TestCancel_AcksNothingThatWasCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		require.NoError(t, b.Publish("topic", message.NewMessage("a", nil)))
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		msg := receive(t, in)
		b.EndLease("topic", "a")
		require.Equal(t, backend.Cancelled{Removed: 1}, cancel(t, b, backend.Selection{ID: "a"}), "its lease has run out")
		msg.Ack()
		synctest.Wait()
		require.Zero(t, b.Size("topic"))
	})
}

func TestCancel_ChoosesByIDAndKeyAlone(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	for _, s := range []backend.Selection{{}, {ID: "a", Event: "E"}, {UniqueKey: "k", Header: "h"}, {ID: "a", Limit: 1}} {
		_, err := b.Cancel(t.Context(), "topic", s)
		require.ErrorAs(t, err, new(*backend.RefusedError))
	}
}

func cancelRunning(t *testing.T, b *memory.Broker, s backend.Selection) backend.Cancelled {
	t.Helper()
	cancelled, err := b.CancelRunning(t.Context(), "topic", s)
	require.NoError(t, err)
	return cancelled
}

func TestCancelRunning_StopsWhatIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		publishOn(t, b, "a", &backend.PublishCondition{UniqueKey: "k"}, 0)
		publishOn(t, b, "b", &backend.PublishCondition{UniqueKey: "b"}, 0)
		in, err := b.Connect(nil).Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		a, other := receive(t, in), receive(t, in)
		start := time.Now()
		require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, b, backend.Selection{UniqueKey: "k"}))
		<-a.Context().Done()
		require.ErrorIs(t, context.Cause(a.Context()), backend.ErrCancelled)
		require.Zero(t, time.Since(start))
		require.Equal(t, backend.PublishStored, publishOn(t, b, "c", &backend.PublishCondition{UniqueKey: "k"}, time.Hour).Outcome, "its key is free")
		backend.Nack(a, backend.Redelivery{Failures: 1})
		synctest.Wait()
		require.NoError(t, other.Context().Err())
		require.True(t, other.Ack())
		synctest.Wait()
		require.Equal(t, 1, b.Size("topic"), "that with the key")
	})
}

func TestCancelRunning_TellsWhatItFinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		require.Equal(t, backend.Cancelled{}, cancelRunning(t, b, backend.Selection{ID: "a"}), "of a topic without messages")
		publishOn(t, b, "a", &backend.PublishCondition{UniqueKey: "a"}, time.Hour)
		require.Equal(t, backend.Cancelled{Removed: 1}, cancelRunning(t, b, backend.Selection{ID: "a"}), "it waits")
		require.Equal(t, backend.Cancelled{}, cancelRunning(t, b, backend.Selection{ID: "a"}), "it is gone")

		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		publishOn(t, b, "b", &backend.PublishCondition{UniqueKey: "b"}, 0)
		backend.Nack(receive(t, in), backend.Redelivery{Delay: time.Hour, Failures: 1})
		synctest.Wait()
		require.Equal(t, backend.Cancelled{Stopped: 1}, cancelRunning(t, b, backend.Selection{ID: "b"}), "it is to be delivered again")
		publishOn(t, b, "c", &backend.PublishCondition{UniqueKey: "c"}, 0)
		require.True(t, receive(t, in).Ack())
		synctest.Wait()
		require.Equal(t, backend.Cancelled{}, cancelRunning(t, b, backend.Selection{ID: "c"}), "it is done")
		_, err = b.CancelRunning(t.Context(), "topic", backend.Selection{})
		require.ErrorAs(t, err, new(*backend.RefusedError))
	})
}
