package ezq_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

type newEvent struct{ N int }

func oldProgram(broker *memory.Broker, config ezq.Config) *ezq.Router {
	router := newRouter(broker, config)
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
	return router
}

func TestUnknownEvent_IsLeftToOthersThenFails(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var log bytes.Buffer
		old := func(d time.Duration) ezq.TopicStats {
			router := ezq.NewRouter(broker, &ezq.Config{UnknownFor: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
			runFor(t, router, d)
			return router.Stats()[ezq.DefaultTopic]
		}
		publish(t, broker, newEvent{1})
		stats := old(30 * time.Minute)
		require.InDelta(t, 40, stats.Unknown, 10, "the delay grows to a minute")
		require.Less(t, strings.Count(log.String(), "unknown event released"), 4, "one name is not logged each time")

		newer := newRouter(broker, ezq.Config{})
		known := 0
		ezq.Handle(newer, func(ctx context.Context, _ newEvent) error {
			meta := ezq.MetaFromContext(ctx)
			assert(t, meta.Delivery == 1 && meta.Failures == 0)
			known++
			return ezq.Snooze(2 * time.Minute)
		})
		runFor(t, newer, 90*time.Second)
		require.Equal(t, 1, known)

		stats = old(55 * time.Minute)
		require.Zero(t, stats.DeadLettered, "the time begins anew after a program has known it")
		stats = old(10 * time.Minute)
		require.EqualValues(t, 1, stats.DeadLettered)
		require.Zero(t, stats.Failed)
		deadLetters, err := broker.Subscribe(t.Context(), "ezq_dead")
		require.NoError(t, err)
		deadLetter := <-deadLetters
		require.Contains(t, deadLetter.Metadata[backend.DeadLetterReason], `no handler for event "newEvent"`)
		deadLetter.Ack()
	})
}

func TestUnknownFor_SpansRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, newEvent{1})
		var unknown int64
		for range 5 {
			router := oldProgram(broker, ezq.Config{UnknownFor: time.Hour})
			runFor(t, router, 10*time.Minute)
			unknown += router.Stats()[ezq.DefaultTopic].Unknown
			require.Zero(t, router.Stats()[ezq.DefaultTopic].DeadLettered)
		}
		require.InDelta(t, 65, unknown, 15, "the delay grows to a minute")
		router := oldProgram(broker, ezq.Config{UnknownFor: time.Hour})
		runFor(t, router, 20*time.Minute)
		require.EqualValues(t, 1, router.Stats()[ezq.DefaultTopic].DeadLettered)
	})
}

func TestUnknownEvent_MayFailAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, newEvent{1})
		router := oldProgram(broker, ezq.Config{UnknownFor: 1})
		runFor(t, router, time.Second/2)
		require.EqualValues(t, 1, router.Stats()[ezq.DefaultTopic].DeadLettered)
		require.ErrorIs(t, oldProgram(broker, ezq.Config{UnknownFor: -1}).Run(t.Context()), ezq.ErrInvalidConfig)
	})
}

func TestIgnore_RefusesNonsense(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	router := oldProgram(broker, ezq.Config{})
	require.Panics(t, func() { router.Ignore("ezq") })
	require.Panics(t, func() { router.Ignore("ezq", "") })
	router.Ignore("orders", "newEvent")
	require.ErrorContains(t, router.Run(t.Context()), `Ignore: topic "orders" has no handler`)
	router = oldProgram(broker, ezq.Config{})
	router.Ignore("ezq", "OrderPlaced")
	require.ErrorContains(t, router.Run(t.Context()), "which has a handler")
}

func TestSnooze_RedeliversWithoutFailure(t *testing.T) {
	for name, handle := range map[string]func(r *ezq.Router, f func(context.Context, orderPlaced) error){
		"the only handler snoozes": func(r *ezq.Router, f func(context.Context, orderPlaced) error) { ezq.Handle(r, f) },
		"one of two handlers snoozes": func(r *ezq.Router, f func(context.Context, orderPlaced) error) {
			ezq.Handle(r, f, ezq.Name("snoozes"))
			ezq.Handle(r, func(context.Context, orderPlaced) error { return nil }, ezq.Name("does not"))
		},
		"a batch handler snoozes": func(r *ezq.Router, f func(context.Context, orderPlaced) error) {
			ezq.HandleBatch(r, func(ctx context.Context, events []orderPlaced) error {
				return ezq.BatchError{0: f(ctx, events[0])}
			}, ezq.Size(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				start := time.Now()
				runs := 0
				var done time.Duration
				handle(router, func(ctx context.Context, _ orderPlaced) error {
					if runs++; runs <= 30 {
						return ezq.Snooze(time.Minute)
					}
					meta := ezq.MetasFromContext(ctx)[0]
					assert(t, meta.Delivery == 1 && meta.Failures == 0)
					done = time.Since(start)
					return nil
				})
				publish(t, broker, orderPlaced{1})
				runFor(t, router, time.Hour)
				require.Equal(t, 31, runs)
				require.Equal(t, 30*time.Minute, done)
				stats := router.Stats()[ezq.DefaultTopic]
				require.EqualValues(t, 30, stats.Released)
				require.Zero(t, stats.Failed)
			})
		})
	}
}

func TestSnooze_WhenPermanentIsFailure(t *testing.T) {
	t.Parallel()
	d, ok := ezq.SnoozeDelay(ezq.Snooze(0))
	require.True(t, ok)
	require.Equal(t, time.Millisecond, d)
	_, ok = ezq.SnoozeDelay(ezq.Permanent(ezq.Snooze(time.Hour)))
	require.False(t, ok)
	_, ok = ezq.SnoozeDelay(errBoom)
	require.False(t, ok)
}

func TestUnknownEvent_WithInvalidNameReachesNoHandler(t *testing.T) {
	for name, event := range map[string]string{
		"a long name":                  strings.Repeat("A", 5<<20),
		"a long name, with a Poison":   strings.Repeat("A", 5<<20),
		"a name of control characters": strings.Repeat(`\u001b`, 100),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				var log bytes.Buffer
				router := ezq.NewRouter(broker, &ezq.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				if strings.HasSuffix(name, "Poison") {
					router.Use(middleware.Poison{}.Middleware)
				}
				ezq.Handle(router, func(context.Context, orderPlaced) error { panic("it is for another one") }) // the only one of its topic
				id := strings.Repeat("i", 200)
				require.NoError(t, broker.Publish(ezq.DefaultTopic, message.NewMessage(id, []byte(`{"_type":"`+event+`"}`))))
				runFor(t, router, time.Minute)
				require.EqualValues(t, 1, router.Stats()[ezq.DefaultTopic].DeadLettered, "at once: no program knows it")
				require.Less(t, log.Len(), 1000)
				require.NotContains(t, log.String(), id)

				deadLetters, err := broker.Subscribe(t.Context(), "ezq_dead")
				require.NoError(t, err)
				deadLetter := <-deadLetters
				require.Contains(t, deadLetter.Metadata[backend.DeadLetterReason], "names no event")
				deadLetter.Ack()
			})
		})
	}
}

func TestUnknownEventError_TruncatesLongName(t *testing.T) {
	t.Parallel()
	err := &ezq.UnknownEventError{Topic: "orders", Event: strings.Repeat("A", 5000)}
	require.Less(t, len(err.Error()), 300)
}
