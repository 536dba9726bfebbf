package ezq_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func TestID_IsTheIDOfTheEvent(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	var first, second ezq.PublishResult
	require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{1}, ezq.ID("user-1"), ezq.ResultTo(&first)))
	require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{1}, ezq.ID("user-1"), ezq.ResultTo(&second)))
	require.Equal(t, ezq.PublishResult{ID: "user-1", Stored: true}, first)
	require.Equal(t, ezq.PublishResult{ID: "user-1"}, second)

	received, err := b.Subscribe(t.Context(), ezq.DefaultTopic)
	require.NoError(t, err)
	msg := <-received
	require.Equal(t, "user-1", msg.UUID)
	msg.Ack()
}

func TestIDs_StoreTheNewEventsOfABatch(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{2}, ezq.ID("2")))
	results := make([]ezq.PublishResult, 4)
	require.NoError(t, ezq.PublishBatch(t.Context(), b, []UserDeleted{{1}, {2}, {3}, {3}},
		ezq.IDs("1", "2", "3", "3"), ezq.ResultTo(&results[0], &results[1], &results[2], &results[3])))
	require.Equal(t, []ezq.PublishResult{{ID: "1", Stored: true}, {ID: "2"}, {ID: "3", Stored: true}, {ID: "3"}}, results)
}

func TestResultTo_TellsTheIDOfAnyPublish(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, p := range map[string]*recordingPublisher{"a publish that succeeds": {}, "a publish that fails": {err: broken}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var result ezq.PublishResult
			require.ErrorIs(t, ezq.Publish(t.Context(), p, UserDeleted{1}, ezq.ResultTo(&result)), p.err)
			_, msg := p.sent(t)
			require.Equal(t, ezq.PublishResult{ID: msg.UUID, Stored: p.err == nil}, result)
		})
	}
}

func TestPublishOptions_ForEachPublishOnItsOwn(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	option := ezq.Unique("k")
	for _, topic := range []string{"a", "b"} {
		var result ezq.PublishResult
		require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{1}, option, ezq.Topic(topic), ezq.ResultTo(&result)))
		require.True(t, result.Stored, "the result of another publish counted")
	}
}

func TestUnique_RunsOnceWhilePending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		router := ezq.NewRouter(b, nil)
		var handled []int
		ezq.Handle(router, func(ctx context.Context, e UserDeleted) error {
			handled = append(handled, e.ID)
			var result ezq.PublishResult
			if err := ezq.Publish(ctx, b, UserDeleted{99}, ezq.Unique("k"), ezq.ResultTo(&result)); err != nil || result.Stored {
				t.Errorf("it was stored while another one is being handled: %+v, %v", result, err)
			}
			if len(handled) == 1 {
				return errors.New("again")
			}
			return nil
		})
		var first, second ezq.PublishResult
		require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{1}, ezq.Unique("k"), ezq.ResultTo(&first)))
		require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{2}, ezq.Unique("k"), ezq.ResultTo(&second)))
		require.True(t, first.Stored)
		require.Equal(t, ezq.PublishResult{ID: first.ID}, second)
		runUntilIdle(t, router, b)
		require.Equal(t, []int{1, 1}, handled)
	})
}

// runUntilIdle runs router for an hour of virtual time.
func runUntilIdle(t *testing.T, router *ezq.Router, b *memory.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	require.NoError(t, router.Run(ctx))
	require.NoError(t, b.Close())
}

func TestUnique_KeyOfExpiredEventIsFree(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var result ezq.PublishResult
		publishExpiring(t, broker, 1, ezq.Unique("k"), ezq.Expires(time.Second))
		time.Sleep(time.Second) // while no consumer runs
		publishExpiring(t, broker, 2, ezq.Unique("k"), ezq.Expires(time.Hour), ezq.ResultTo(&result))
		require.True(t, result.Stored)
		router, _ := newLoggingRouter(broker)
		var handled []int
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			handled = append(handled, e.ID)
			return nil
		})
		runFor(t, router, time.Second)
		require.Equal(t, []int{2}, handled)
	})
}

func TestDebounce_HandlesTheLastEventOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		router := ezq.NewRouter(b, nil)
		var handled []int
		ezq.Handle(router, func(_ context.Context, e UserDeleted) error {
			handled = append(handled, e.ID)
			return nil
		})
		var last ezq.PublishResult
		for i := range 3 {
			previous := last.ID
			require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{i}, ezq.Delay(5*time.Second), ezq.Debounce("k", time.Minute), ezq.ResultTo(&last)))
			require.True(t, last.Stored)
			require.Equal(t, previous, last.Replaced)
		}
		runUntilIdle(t, router, b)
		require.Equal(t, []int{2}, handled)
	})
}

func TestPublish_RefusesOptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	many := strings.Repeat("x", backend.MaxID+1)
	for name, test := range map[string]struct {
		events  int
		options []ezq.PublishOption
		says    string
	}{
		"an empty ID":            {1, []ezq.PublishOption{ezq.ID("")}, "the ID is empty"},
		"two IDs for one event":  {1, []ezq.PublishOption{ezq.ID("a"), ezq.ID("b")}, "ID was used before"},
		"one ID for two events":  {2, []ezq.PublishOption{ezq.ID("a")}, "1 IDs for 2 events"},
		"no IDs for an event":    {1, []ezq.PublishOption{ezq.IDs()}, "0 IDs for 1 events"},
		"an ID that is too long": {1, []ezq.PublishOption{ezq.ID(many)}, "256 bytes"},
		"an ID with NUL":         {1, []ezq.PublishOption{ezq.ID("\x00")}, "NUL"},
		"an ID and a key":        {1, []ezq.PublishOption{ezq.ID("a"), ezq.Unique("k")}, "ID excludes"},
		"an empty key":           {1, []ezq.PublishOption{ezq.Unique("")}, "the key is empty"},
		"a key that is too long": {1, []ezq.PublishOption{ezq.Replace(many)}, "256 bytes"},
		"a key with NUL":         {1, []ezq.PublishOption{ezq.Unique("\x00")}, "NUL"},
		"two conditions":         {1, []ezq.PublishOption{ezq.Unique("k"), ezq.Replace("k")}, "exclude each other"},
		"a key for a batch":      {2, []ezq.PublishOption{ezq.Unique("k")}, "a key is for one event"},
		"a debounce of no delay": {1, []ezq.PublishOption{ezq.Debounce("k", time.Minute)}, "Debounce needs a Delay or At"},
		"a longest time of 0":    {1, []ezq.PublishOption{ezq.Debounce("k", 0)}, "use a positive one"},
		"no room for results":    {2, []ezq.PublishOption{ezq.ResultTo(new(ezq.PublishResult))}, "room for 1 of 2"},
		"a result that is nil":   {1, []ezq.PublishOption{ezq.ResultTo(nil)}, "a result is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := t.Name()
			err := ezq.PublishBatch(t.Context(), b, make([]UserDeleted, test.events), append(test.options, ezq.Topic(topic))...)
			require.ErrorContains(t, err, test.says)
			var next ezq.PublishResult // the ID and the key are free
			require.NoError(t, ezq.Publish(t.Context(), b, UserDeleted{1}, ezq.Unique("k"), ezq.Topic(topic), ezq.ResultTo(&next)))
			require.True(t, next.Stored)
		})
	}
}

func TestPublish_RefusesConditionsThatThePublisherCannotKeep(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]ezq.PublishOption{
		"ID": ezq.ID("a"), "Unique": ezq.Unique("k"), "Replace": ezq.Replace("k"), "Debounce": ezq.Debounce("k", time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plainPublisher{&recordingPublisher{}}
			require.ErrorIs(t, ezq.Publish(t.Context(), p, UserDeleted{1}, option), errors.ErrUnsupported)
			require.Empty(t, p.Publisher.(*recordingPublisher).calls)
		})
	}
}

// A decorator may publish with the context of a message that has a condition.
func TestCondition_IsOfOneEvent(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	ctx := backend.WithPublishCondition(t.Context(), &backend.PublishCondition{UniqueKey: "k"})
	for range 3 {
		var result ezq.PublishResult
		require.NoError(t, ezq.Publish(ctx, b, UserDeleted{1}, ezq.ResultTo(&result)))
		require.True(t, result.Stored)
	}
	in, err := b.Subscribe(t.Context(), ezq.DefaultTopic)
	require.NoError(t, err)
	for range 3 {
		msg := <-in
		require.Nil(t, backend.PublishConditionFromContext(msg.Context()))
		msg.Ack()
	}
}
