package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestRelease_LeavesNoTraceOfDelivery(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	first := openAt(t, database, pgmq.Config{})
	publish(t, first, "a", "b", "c")
	publish(t, first, "d")
	messages := subscribe(t, first)
	received := map[string]*message.Message{}
	for range 4 {
		msg := receive(t, messages)
		received[msg.UUID] = msg
	}
	require.True(t, backend.Release(received["c"]))
	require.True(t, backend.Nack(received["a"], backend.Redelivery{InPlace: true, Failures: 1, Done: []string{"one"}}))
	require.True(t, backend.Release(received["b"]))
	require.True(t, backend.Nack(received["d"], backend.Redelivery{Uncounted: true}))
	require.NoError(t, first.Close())

	messages = subscribe(t, openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1}}))
	for _, want := range []struct {
		id               string
		number, failures int
	}{{"a", 2, 1}, {"b", 1, 0}, {"c", 1, 0}, {"d", 1, 0}} {
		msg := receive(t, messages)
		require.Equal(t, want.id, msg.UUID)
		require.Equal(t, want.number, delivery(msg).Number, want.id)
		require.Equal(t, want.failures, delivery(msg).Failures, want.id)
		msg.Ack()
	}
}

func TestNack_UncountedMayHaveDelay(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 1}})
	publish(t, client, "a")
	publish(t, client, "b")
	messages := subscribe(t, client)
	start := time.Now()
	const delay = 300 * time.Millisecond
	backend.Nack(receive(t, messages), backend.Redelivery{Delay: delay, InPlace: true, Uncounted: true, Failures: 3})
	receive(t, messages).Ack()
	again := receive(t, messages)
	require.Equal(t, "a", again.UUID)
	require.GreaterOrEqual(t, time.Since(start), delay)
	require.Equal(t, 1, delivery(again).Number)
	require.Equal(t, 3, delivery(again).Failures)
	again.Ack()
}

// A message that is locked is let go: nothing is written about it.
func TestRelease_LeavesLockedMessageUntouched(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	messages := subscribe(t, client)
	for range 40 { // until it holds
		publish(t, client, "before")
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.q_t", 0)
	publish(t, client, "a")
	for range 3 {
		msg := receive(t, messages)
		require.Equal(t, 1, delivery(msg).Number)
		require.True(t, backend.Release(msg))
	}
	receive(t, messages).Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestUnknownSince_IsKeptUntilOutcomeReplacesIt(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	publish(t, client, "a")
	messages := subscribe(t, client)
	msg := receive(t, messages)
	require.Zero(t, delivery(msg).UnknownSince)
	since := time.Date(2026, 11, 28, 23, 0, 0, 123, time.UTC)
	backend.Nack(msg, backend.Redelivery{Delay: time.Millisecond, Uncounted: true, UnknownSince: since})
	for range 2 {
		msg = receive(t, messages)
		require.Equal(t, since, delivery(msg).UnknownSince)
		require.Equal(t, 1, delivery(msg).Number)
		backend.Release(msg)
	}
	backend.Nack(receive(t, messages), backend.Redelivery{Failures: 1})
	msg = receive(t, messages)
	require.Zero(t, delivery(msg).UnknownSince)
	backend.Nack(msg, backend.Redelivery{UnknownSince: since})
	backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "dead"})
	deadLetters, err := client.Subscribe(t.Context(), "dead")
	require.NoError(t, err)
	deadLetter := receive(t, deadLetters)
	require.Zero(t, delivery(deadLetter).UnknownSince)
	deadLetter.Ack()
}
