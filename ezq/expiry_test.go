package ezq_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// deadOrders returns the dead letters of the default topic.
func deadOrders(t *testing.T, broker *memory.Broker) []backend.Found {
	t.Helper()
	found, err := broker.Find(t.Context(), "ezq_dead", backend.Selection{Event: ezq.EventName[orderPlaced]()})
	require.NoError(t, err)
	return found
}

func publishExpiring(t *testing.T, broker *memory.Broker, id int, opts ...ezq.PublishOption) {
	t.Helper()
	require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{id}, opts...))
}

func TestExpires_LateEventIsDeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publishExpiring(t, broker, 1, ezq.Expires(time.Minute))
		publishExpiring(t, broker, 2, ezq.Expires(time.Hour))
		publishExpiring(t, broker, 3)
		expiry := time.Now().Add(time.Minute)
		time.Sleep(time.Minute)
		router, log := newLoggingRouter(broker)
		var handled []int
		var metas []ezq.Meta
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			handled, metas = append(handled, e.ID), append(metas, ezq.MetaFromContext(ctx))
			return nil
		}, ezq.Concurrency(1))
		runFor(t, router, time.Second)
		require.Equal(t, []int{2, 3}, handled)
		require.Equal(t, expiry.Add(59*time.Minute).UTC(), metas[0].ExpiresAt)
		require.Zero(t, metas[1].ExpiresAt)
		require.EqualValues(t, 1, router.Stats()["ezq"].DeadLettered)
		dead := deadOrders(t, broker)
		require.Len(t, dead, 1)
		require.Contains(t, dead[0].Metadata[backend.DeadLetterReason], "ezq: the event expired at "+expiry.UTC().Format(time.RFC3339))
		require.Equal(t, "0", dead[0].Metadata[backend.DeadLetterFailures])
		require.Contains(t, log.String(), " failures=0 ", "the log says the same")
		require.Empty(t, dead[0].Metadata[backend.ExpiresAt], "once redriven, it is to be handled")
	})
}

func TestExpires_LateEventIsDroppedIfTopicSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publishExpiring(t, broker, 1, ezq.Expires(time.Minute))
		publishExpiring(t, broker, 2)
		time.Sleep(time.Hour)
		router := newRouter(broker, ezq.Config{Topics: map[string]ezq.TopicConfig{"ezq": {DropExpired: true}}})
		var handled atomic.Int64
		for _, name := range []string{"a", "b"} {
			ezq.Handle(router, func(context.Context, orderPlaced) error { handled.Add(1); return nil }, ezq.Concurrency(1), ezq.Name(name))
		}
		runFor(t, router, time.Second)
		require.EqualValues(t, 2, handled.Load())
		stats := router.Stats()["ezq"]
		require.EqualValues(t, 1, stats.Dropped)
		require.EqualValues(t, 1, stats.Succeeded)
		require.Zero(t, stats.InFlight)
		require.Empty(t, deadOrders(t, broker))
		require.Empty(t, remaining(t, broker))
	})
}

// It was handled in time, and failed; the next attempt would be too late.
func TestExpires_EndsAttempts(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publishExpiring(t, broker, 1, ezq.Expires(10*time.Second))
		router := newRouter(broker, ezq.Config{})
		attempts := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			attempts++
			return ezq.RetryAfter(4*time.Second, errBoom)
		})
		runFor(t, router, time.Hour)
		require.Equal(t, 3, attempts, "after 0, 4 and 8 seconds")
		require.Len(t, deadOrders(t, broker), 1)
	})
}

func TestExpires_HoldsForBatches(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publishExpiring(t, broker, 1, ezq.Expires(time.Minute))
		publishExpiring(t, broker, 2)
		time.Sleep(time.Hour)
		router := newRouter(broker, ezq.Config{})
		var batches [][]orderPlaced
		ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
			batches = append(batches, events)
			return nil
		})
		runFor(t, router, time.Minute)
		require.Equal(t, [][]orderPlaced{{{2}}}, batches)
		require.Len(t, deadOrders(t, broker), 1)
	})
}

// An event comes in time, and has expired when its batch has lingered, or has waited for the one before it.
func TestExpires_HoldsForBatchesThatWait(t *testing.T) {
	for name, opts := range map[string][]ezq.BatchOption{
		"for more events": {ezq.Linger(2 * time.Minute)},
		"for its turn":    {ezq.Linger(0), ezq.Size(1), ezq.Concurrency(1)},
	} {
		for _, drop := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dropped %t", name, drop), func(t *testing.T) {
				bubble(t, func(t *testing.T, broker *memory.Broker) {
					publishExpiring(t, broker, 0)
					router := newRouter(broker, ezq.Config{Topics: map[string]ezq.TopicConfig{"ezq": {DropExpired: drop}}})
					var handled []int
					ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
						for _, e := range events {
							handled = append(handled, e.ID)
						}
						if handled[len(handled)-1] == 0 {
							err := errors.Join(ezq.Publish(t.Context(), broker, orderPlaced{1}, ezq.Expires(time.Minute)), ezq.Publish(t.Context(), broker, orderPlaced{2}))
							if err != nil {
								t.Error(err)
							}
						}
						time.Sleep(2 * time.Minute)
						return nil
					}, opts...)
					runFor(t, router, time.Hour)
					require.Equal(t, []int{0, 2}, handled)
					if drop {
						require.EqualValues(t, 1, router.Stats()["ezq"].Dropped)
						require.Empty(t, deadOrders(t, broker))
					} else {
						require.Len(t, deadOrders(t, broker), 1)
					}
					require.Empty(t, remaining(t, broker))
				})
			})
		}
	}
}

// A handler that has begun in time is left alone.
func TestExpires_InterruptsNoHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publishExpiring(t, broker, 1, ezq.Expires(time.Minute))
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			time.Sleep(30 * time.Minute) // less than MaxExtension, which would take the message away
			return ctx.Err()
		})
		runFor(t, router, 2*time.Hour)
		require.Empty(t, remaining(t, broker))
		require.Empty(t, deadOrders(t, broker))
	})
}

func TestExpires_UnreadableTimeDoesNotCount(t *testing.T) {
	for _, value := range []string{"", "tomorrow", "2000-01-01", "1e9", "\x7f"} {
		t.Run(value, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				msg := message.NewMessage("1", []byte(`{"_type":"`+ezq.EventName[orderPlaced]()+`","ID":1}`))
				msg.Metadata.Set(backend.ExpiresAt, value)
				require.NoError(t, broker.Publish("ezq", msg))
				router := newRouter(broker, ezq.Config{})
				handled := 0
				ezq.Handle(router, func(context.Context, orderPlaced) error { handled++; return nil })
				runFor(t, router, time.Second)
				require.Equal(t, 1, handled)
			})
		})
	}
}

func TestExpires_RefusesWhatCannotBeHandledInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(nil)
		for text, opts := range map[string][]ezq.PublishOption{
			"Expires: 0s is not positive":                                           {ezq.Expires(0)},
			"Expires: -1s is not positive":                                          {ezq.Expires(-time.Second)},
			"the events would expire 1m0s from now, and are due only 1m0s from now": {ezq.Expires(time.Minute), ezq.Delay(time.Minute)},
			"the events would expire 1m0s from now, and are due only 1h0m0s from now": {
				ezq.At(time.Now().Add(time.Hour)), ezq.Expires(time.Minute),
			},
		} {
			require.ErrorContains(t, ezq.Publish(t.Context(), broker, orderPlaced{1}, opts...), text)
		}
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{1}, ezq.Expires(time.Minute), ezq.Delay(59*time.Second)))
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{1}, ezq.Expires(time.Minute), ezq.At(time.Now().Add(-time.Hour))))
	})
}
