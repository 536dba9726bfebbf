package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func reschedule(t *testing.T, b *memory.Broker, s backend.Selection, at time.Time) backend.Rescheduled {
	t.Helper()
	moved, err := b.Reschedule(t.Context(), "topic", s, at)
	require.NoError(t, err)
	return moved
}

func TestReschedule_MovesWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		begin := time.Now()
		publishOn(t, b, "a", &backend.PublishCondition{UniqueKey: "k"}, time.Hour)
		publishOn(t, b, "b", &backend.PublishCondition{UniqueKey: "l"}, time.Hour)
		publishOn(t, b, "c", &backend.PublishCondition{UniqueKey: "m"}, time.Second)
		synctest.Wait()
		require.Equal(t, backend.Rescheduled{Moved: 1}, reschedule(t, b, backend.Selection{ID: "a"}, begin.Add(time.Minute)), "to an earlier time")
		require.Equal(t, backend.Rescheduled{Moved: 1}, reschedule(t, b, backend.Selection{UniqueKey: "l"}, time.Time{}), "to now")
		require.Equal(t, backend.Rescheduled{Moved: 1}, reschedule(t, b, backend.Selection{UniqueKey: "m"}, begin.Add(time.Hour)), "to a later time")
		for _, want := range []struct {
			id string
			at time.Duration
		}{{"b", 0}, {"a", time.Minute}, {"c", time.Hour}} {
			msg := receive(t, in)
			require.Equal(t, want.id, msg.UUID)
			require.Equal(t, want.at, time.Since(begin))
			require.Equal(t, 1, backend.DeliveryFromContext(msg.Context()).Number)
			msg.Ack()
		}
		synctest.Wait()
		require.Equal(t, backend.Rescheduled{}, reschedule(t, b, backend.Selection{ID: "a"}, begin))
	})
}

func TestReschedule_LeavesWhatMayBeHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		publishOn(t, b, "a", &backend.PublishCondition{UniqueKey: "k"}, 0)
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		msg := receive(t, in)
		require.Equal(t, backend.Rescheduled{Busy: 1}, reschedule(t, b, backend.Selection{UniqueKey: "k"}, time.Time{}), "while it is handled")
		backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
		synctest.Wait()
		require.Equal(t, backend.Rescheduled{Busy: 1}, reschedule(t, b, backend.Selection{UniqueKey: "k"}, time.Time{}), "in the pause after a failure")
		receive(t, in).Ack()
	})
}

func TestReschedule_KeepsThePlaceOfWhatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(&memory.Config{MaxInFlight: 1})
		defer func() { _ = b.Close() }()
		for _, id := range []string{"1", "2"} {
			require.NoError(t, b.Publish("topic", message.NewMessage(id, nil)))
			time.Sleep(time.Second)
		}
		require.Equal(t, backend.Rescheduled{Moved: 1}, reschedule(t, b, backend.Selection{ID: "1"}, time.Time{}))
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		for _, id := range []string{"1", "2"} {
			msg := receive(t, in)
			require.Equal(t, id, msg.UUID)
			msg.Ack()
		}
	})
}

func TestReschedule_ChecksItsArguments(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	_, err := b.Reschedule(t.Context(), "topic", backend.Selection{Event: "E"}, time.Time{})
	require.ErrorAs(t, err, new(*backend.RefusedError))
	_, err = b.Reschedule(t.Context(), "topic", backend.Selection{ID: "a"}, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC))
	require.ErrorAs(t, err, new(*backend.RefusedError))
}
