package memory_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// publishOn publishes a message with an ID, a payload of the same text and a condition, and
// returns what is reported.
func publishOn(t *testing.T, b *memory.Broker, id string, c *backend.PublishCondition, delay time.Duration) backend.PublishResult {
	t.Helper()
	msg := message.NewMessage(id, []byte(id))
	msg.SetContext(backend.WithPublishCondition(t.Context(), c))
	if delay > 0 {
		backend.SetDelay(msg, delay)
	}
	require.NoError(t, b.Publish("topic", msg))
	result, ok := c.Result()
	require.True(t, ok, "nothing was reported")
	return result
}

func TestOnce_StoresAnIDOncePerWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(&memory.Config{IDWindow: time.Hour})
		defer func() { require.NoError(t, b.Close()) }()
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		once := func() *backend.PublishCondition { return &backend.PublishCondition{Once: true} }

		require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, b, "a", once(), 0))
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishExisted, ID: "a"}, publishOn(t, b, "a", once(), 0))
		receive(t, in).Ack()
		time.Sleep(time.Hour - time.Nanosecond)
		require.Equal(t, backend.PublishExisted, publishOn(t, b, "a", once(), 0).Outcome, "within the window, and after the first was acked")
		time.Sleep(time.Nanosecond)
		require.Equal(t, backend.PublishStored, publishOn(t, b, "a", once(), 0).Outcome, "after the window")
		msg := receive(t, in)
		require.Equal(t, "a", msg.UUID)
		msg.Ack()
	})
}

func TestOnce_RememberedIDsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(&memory.Config{IDWindow: time.Minute})
		defer func() { require.NoError(t, b.Close()) }()
		for i := range 1000 {
			publishOn(t, b, strconv.Itoa(i), &backend.PublishCondition{Once: true}, 0)
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, b.RememberedIDs("topic"), 60)
	})
}

func TestUnique_ExpiredMessageHasItsKeyWhileItIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { require.NoError(t, b.Close()) }()
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		unique := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k"} }
		msg := message.NewMessage("a", nil)
		msg.Metadata.Set(backend.ExpiresAt, time.Now().UTC().Format(time.RFC3339Nano))
		msg.SetContext(backend.WithPublishCondition(t.Context(), unique()))
		require.NoError(t, b.Publish("topic", msg))
		handled := receive(t, in)
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishExisted, ID: "a"}, publishOn(t, b, "b", unique(), 0))
		handled.Ack()
	})
}

func TestUnique_KeyIsFreeWhenItsMessageIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { require.NoError(t, b.Close()) }()
		unique := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k"} }
		there := backend.PublishResult{Outcome: backend.PublishExisted, ID: "a"}

		require.Equal(t, backend.PublishResult{ID: "a"}, publishOn(t, b, "a", unique(), 0))
		require.Equal(t, there, publishOn(t, b, "b", unique(), 0), "while it waits")
		require.Equal(t, backend.PublishStored, publishOn(t, b, "x", &backend.PublishCondition{UniqueKey: "other"}, 0).Outcome)
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		msg := receive(t, in)
		require.Equal(t, there, publishOn(t, b, "b", unique(), 0), "while it is handled")
		backend.Nack(msg, backend.Redelivery{Delay: time.Hour, Failures: 1})
		synctest.Wait()
		require.Equal(t, there, publishOn(t, b, "b", unique(), 0), "while it is to be handled again")
		receive(t, in).Ack() // x
		receive(t, in).Ack()
		synctest.Wait()
		require.Equal(t, backend.PublishResult{ID: "b"}, publishOn(t, b, "b", unique(), 0), "after its ack")
		backend.DeadLetter(receive(t, in), backend.DeadLetterTarget{Topic: "dead"})
		synctest.Wait()
		require.Equal(t, backend.PublishResult{ID: "c"}, publishOn(t, b, "c", unique(), 0), "after it was dead-lettered")
		receive(t, in).Ack()
	})
}

func TestReplace_TakesThePlaceOfWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { require.NoError(t, b.Close()) }()
		replace := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k", Replace: true} }
		begin := time.Now()
		require.Equal(t, backend.PublishStored, publishOn(t, b, "a", replace(), time.Minute).Outcome)
		require.Equal(t, backend.PublishResult{Outcome: backend.PublishReplaced, ID: "a"}, publishOn(t, b, "b", replace(), time.Hour))
		in, err := b.Subscribe(t.Context(), "topic")
		require.NoError(t, err)
		msg := receive(t, in)
		require.Equal(t, "b", msg.UUID)
		require.Equal(t, "b", string(msg.Payload))
		require.Equal(t, time.Minute, time.Since(begin), "the clock of the first one counts")

		require.Equal(t, backend.PublishStored, publishOn(t, b, "c", replace(), 0).Outcome, "beside one that is being handled")
		beside := receive(t, in)
		require.Equal(t, "c", beside.UUID)
		require.True(t, msg.Ack() && beside.Ack())
	})
}

func TestDebounce_WaitsUntilItsLongestTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(nil)
		defer func() { require.NoError(t, b.Close()) }()
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in, err := b.Subscribe(ctx, "topic")
		require.NoError(t, err)
		for i := range 10 { // every four seconds, and each asks for five
			publishOn(t, b, strconv.Itoa(i), &backend.PublishCondition{UniqueKey: "k", Replace: true, Debounce: 30 * time.Second}, 5*time.Second)
			if i == 7 {
				break
			}
			time.Sleep(4 * time.Second)
		}
		msg := receive(t, in)
		require.Equal(t, "7", msg.UUID)
		require.Equal(t, 30*time.Second, time.Since(begin))
		msg.Ack()
	})
}

func TestPublish_RefusesConditionsThatCannotBe(t *testing.T) {
	t.Parallel()
	b := memory.New(nil)
	t.Cleanup(func() { _ = b.Close() })
	long := string(make([]byte, backend.MaxID+1))
	for name, c := range map[string]*backend.PublishCondition{
		"an empty condition":          {},
		"an ID and a key":             {Once: true, UniqueKey: "k"},
		"a replacement without a key": {Replace: true},
		"a negative longest time":     {UniqueKey: "k", Replace: true, Debounce: -1},
		"a longest time of nothing":   {UniqueKey: "k", Debounce: 1},
		"a key that is too long":      {UniqueKey: long},
		"a key with NUL":              {UniqueKey: "a\x00"},
		"a key that is not UTF-8":     {UniqueKey: "\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := message.NewMessage("bad", nil)
			bad.SetContext(backend.WithPublishCondition(t.Context(), c))
			require.ErrorAs(t, b.Publish(t.Name(), bad), new(*backend.RefusedError))
			require.ErrorAs(t, b.Publish(t.Name(), message.NewMessage("good", nil), bad), new(*backend.RefusedError))
			require.Zero(t, b.Size(t.Name()), "something was stored")
		})
	}
}
