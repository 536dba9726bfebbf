package memory_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestQueueStates_TellHowTopicsAreDoing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(nil)
		defer func() { require.NoError(t, broker.Close()) }()
		require.NoError(t, broker.Publish("b", message.NewMessage("1", nil)))
		for _, id := range []string{"2", "3"} {
			require.NoError(t, broker.Publish("a", message.NewMessage(id, nil)))
		}
		messages, err := broker.Subscribe(t.Context(), "a")
		require.NoError(t, err)
		(<-messages).Ack()
		time.Sleep(time.Second)
		states, err := broker.QueueStates(t.Context())
		require.NoError(t, err)
		require.Equal(t, []backend.QueueState{
			{Queue: "a", Topic: "a", Invisible: 1, NextDue: states[0].NextDue, Added: 2, Removed: 1},
			{Queue: "b", Topic: "b", Waiting: 1, Oldest: time.Second, Added: 1},
		}, states)
		require.WithinDuration(t, time.Now().Add(30*time.Second), states[0].NextDue, 15*time.Second)
	})
}

func TestPeek_GoesThroughATopicAndChangesNothing(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	defer func() { require.NoError(t, broker.Close()) }()
	for _, id := range []string{"1", "2", "3"} {
		require.NoError(t, broker.Publish("a", message.NewMessage(id, []byte(id))))
	}
	var ids []string
	for after := ""; ; {
		found, err := broker.Peek(t.Context(), "a", backend.Peek{After: after, Limit: 2})
		require.NoError(t, err)
		if len(found) == 0 {
			break
		}
		for _, f := range found {
			ids, after = append(ids, f.ID), f.After
			require.Equal(t, f.ID, string(f.Payload))
			require.Zero(t, f.Deliveries)
		}
	}
	require.Equal(t, []string{"1", "2", "3"}, ids)
	found, err := broker.Peek(t.Context(), "unknown", backend.Peek{})
	require.NoError(t, err)
	require.Empty(t, found)
	states, err := broker.QueueStates(t.Context())
	require.NoError(t, err)
	require.Len(t, states, 1) // to look for a topic does not make it
}

func TestPeek_ReturnsNoMorePayloadsThanItSays(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	defer func() { require.NoError(t, broker.Close()) }()
	const n = 20
	for range n {
		require.NoError(t, broker.Publish("a", message.NewMessage("1", []byte(strings.Repeat("x", backend.MaxFoundPayload)))))
	}
	found, err := broker.Peek(t.Context(), "a", backend.Peek{})
	require.NoError(t, err)
	require.Len(t, found, n)
	total := 0
	for _, f := range found {
		total += len(f.Payload)
		require.Equal(t, backend.MaxFoundPayload, f.Size)
	}
	require.Equal(t, backend.MaxPeekPayloads, total)
}

func TestAllPauses_AreThoseOfAllTopics(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	defer func() { require.NoError(t, broker.Close()) }()
	for _, topic := range []string{"b", "a"} {
		_, err := broker.Pause(t.Context(), topic, backend.Pause{By: "me", Reason: topic})
		require.NoError(t, err)
	}
	pauses, err := broker.AllPauses(t.Context())
	require.NoError(t, err)
	require.Len(t, pauses, 2)
	require.Equal(t, "a", pauses[0].Topic)
	_, err = broker.Resume(t.Context(), "a")
	require.NoError(t, err)
	pauses, err = broker.AllPauses(t.Context())
	require.NoError(t, err)
	require.Len(t, pauses, 1)
}
