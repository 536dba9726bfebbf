package memory_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// requireFound returns the only message that is found.
func requireFound(t *testing.T, b *memory.Broker, s backend.Selection) backend.Found {
	t.Helper()
	found, err := b.Find(t.Context(), "topic", s)
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func TestFind_TellsPlaceAndState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { _ = b.Close() }()
		begin := time.Now()
		publishOn(t, b, "a", &backend.PublishCondition{UniqueKey: "k"}, time.Minute)
		require.Equal(t, backend.Found{
			ID: "a", UniqueKey: "k", Queue: "topic", State: backend.StateDelayed, PublishedAt: begin, VisibleAt: begin.Add(time.Minute),
			Payload: []byte("a"), Size: 1, Metadata: message.Metadata{},
		}, requireFound(t, b, backend.Selection{UniqueKey: "k"}))

		time.Sleep(time.Minute)
		require.Equal(t, backend.StateWaiting, requireFound(t, b, backend.Selection{ID: "a"}).State)
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		msg := receive(t, in)
		taken := requireFound(t, b, backend.Selection{ID: "a", UniqueKey: "k"})
		require.Equal(t, backend.StateDelivered, taken.State, "while it is handled")
		require.Equal(t, 1, taken.Deliveries)
		backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
		synctest.Wait()
		taken = requireFound(t, b, backend.Selection{ID: "a"})
		require.Equal(t, backend.StateDelivered, taken.State, "while it is to be handled again")
		require.Equal(t, 1, taken.Failures)
		backend.DeadLetter(receive(t, in), backend.DeadLetterTarget{Topic: "topic_dead", Metadata: message.Metadata{"reason_poisoned": "why"}})
		synctest.Wait()
		dead := requireFound(t, b, backend.Selection{ID: "a"})
		require.Empty(t, dead.UniqueKey)
		require.Equal(t, backend.StateDead, dead.State)
		require.Equal(t, backend.InDeadLetters, dead.Place)
		require.Equal(t, "topic_dead", dead.Queue)
		require.Equal(t, "why", dead.Metadata["reason_poisoned"])
		require.Equal(t, backend.PublishStored, publishOn(t, b, "b", &backend.PublishCondition{UniqueKey: "k"}, 0).Outcome, "the key of a dead letter is free")
		receive(t, in).Ack()
	})
}

func TestFind_MatchesAllThatIsSet(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	for _, m := range []struct{ id, payload, tenant string }{
		{"1", `{"_type":"Paid","order":{"id":7}}`, "a"}, {"2", `{"_type":"Paid"}`, "b"}, {"3", `{"_type":7}`, ""}, {"4", "text", "a"},
	} {
		msg := message.NewMessage(m.id, []byte(m.payload))
		msg.Metadata.Set("tenant", m.tenant)
		msg.Metadata.Set("name", "Named")
		require.NoError(t, b.Publish("topic", msg))
	}
	for _, test := range []struct {
		selection backend.Selection
		want      []string
	}{
		{backend.Selection{Event: "Paid"}, []string{"2", "1"}},
		{backend.Selection{Event: "Paid", Limit: 1}, []string{"2"}},
		{backend.Selection{Event: "Paid", Header: "tenant", Value: "a"}, []string{"1"}},
		{backend.Selection{Header: "tenant", Value: "a"}, []string{"4", "1"}},
		{backend.Selection{Header: "tenant"}, []string{"3"}},
		{backend.Selection{Header: "other"}, nil},
		{backend.Selection{Event: "Named"}, []string{"4"}},
		{backend.Selection{ID: "1", UniqueKey: "k"}, nil},
		{backend.Selection{Field: "order.id", Equals: 7}, []string{"1"}},
		{backend.Selection{Field: "_type", Equals: "Paid", Header: "tenant", Value: "b"}, []string{"2"}},
		{backend.Selection{Field: "order.id", Equals: "7"}, nil},
	} {
		found, err := b.Find(t.Context(), "topic", test.selection)
		require.NoError(t, err)
		var ids []string
		for _, f := range found {
			ids = append(ids, f.ID)
		}
		require.Equal(t, test.want, ids, test.selection)
	}
}

func TestFind_CopiesWhatItReturns(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	large := bytes.Repeat([]byte("x"), backend.MaxFoundPayload+1)
	require.NoError(t, b.Publish("topic", message.NewMessage("a", []byte("payload")), message.NewMessage("b", large)))
	first := requireFound(t, b, backend.Selection{ID: "a"})
	first.Payload[0] = 'X'
	first.Metadata.Set("x", "y")
	second := requireFound(t, b, backend.Selection{ID: "a"})
	require.Equal(t, "payload", string(second.Payload))
	require.Empty(t, second.Metadata)
	cut := requireFound(t, b, backend.Selection{ID: "b"})
	require.Nil(t, cut.Payload)
	require.Equal(t, len(large), cut.Size)
}

func TestFind_MakesNoTopicAndChecksItsArguments(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	found, err := b.Find(t.Context(), "topic", backend.Selection{ID: "a"})
	require.NoError(t, err)
	require.Empty(t, found)
	_, err = b.Find(t.Context(), "topic", backend.Selection{})
	require.ErrorAs(t, err, new(*backend.RefusedError))
	_, err = b.Find(t.Context(), "", backend.Selection{ID: "a"})
	require.ErrorAs(t, err, new(*backend.RefusedError))
	require.NoError(t, b.Close())
	_, err = b.Find(t.Context(), "topic", backend.Selection{ID: "a"})
	require.ErrorIs(t, err, backend.ErrClosed)
}
