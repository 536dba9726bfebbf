package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// logOf runs a router with middleware, and a handler that fails with what fail returns,
// until it is quiet, and returns the records of its log, as JSON has them.
func logOf(t *testing.T, broker *memory.Broker, fail func() error, policies ...message.HandlerMiddleware) []map[string]any {
	t.Helper()
	return logOn(t, broker, "ezq", fail, policies...)
}

// logOn is logOf with a handler of a topic.
func logOn(t *testing.T, broker *memory.Broker, topic string, fail func() error, policies ...message.HandlerMiddleware) (records []map[string]any) {
	t.Helper()
	var log bytes.Buffer
	router := ezq.NewRouter(broker, &ezq.Config{UnknownFor: 1, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	router.Use(policies...)
	ezq.Handle(router, func(context.Context, orderPlaced) error { return fail() }, ezq.Topic(topic))
	run(t, router, time.Hour)
	for lines := json.NewDecoder(&log); lines.More(); {
		record := map[string]any{}
		require.NoError(t, lines.Decode(&record))
		records = append(records, record)
	}
	return records
}

func TestLog_OnlyFinalFailureIsError(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		records := logOf(t, broker, func() error { return errBoom },
			middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{}.Middleware)
		var levels []any
		for _, record := range records {
			levels = append(levels, record["level"])
			require.Equal(t, "OrderPlaced", record["event"])
		}
		require.Equal(t, []any{"WARN", "WARN", "ERROR"}, levels)
		require.Equal(t, "middleware: message dead-lettered", records[2]["msg"])
	})
}

// Of a dead letter of a pattern, the topic is the pattern.
func TestLog_SaysWhereTheDeadLetterOfAPatternWasPublished(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		for _, policies := range [][]message.HandlerMiddleware{nil, {middleware.Poison{}.Middleware}} {
			audit := broker.Connect(&memory.Config{Group: "audit"})
			require.NoError(t, audit.SubscribeInitialize("orders.*"))
			require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{1}, ezq.Topic("orders.eu")))
			records := logOn(t, audit, "orders.*", func() error { return ezq.Permanent(errBoom) }, policies...)
			require.Len(t, records, 1)
			require.Contains(t, records[0]["msg"], "dead-lettered")
			require.Equal(t, []any{"orders.*", "orders.eu"}, []any{records[0]["topic"], records[0]["published_to"]})
			require.NoError(t, audit.Close())
		}
	})
}

func TestLog_SaysWhatTheDeadLetterOfAnExpiredEventSays(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{1}, ezq.Expires(time.Nanosecond)))
		time.Sleep(time.Second)
		records := logOf(t, broker, func() error { return nil }, middleware.Poison{}.Middleware)
		require.Len(t, records, 1)
		require.Equal(t, "middleware: message dead-lettered", records[0]["msg"])
		require.EqualValues(t, 0, records[0]["failures"])
	})
}

func TestLog_PermanentFailureWithoutPoisonIsError(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		failures := 0
		records := logOf(t, broker, func() error {
			if failures++; failures == 1 {
				return ezq.Permanent(errBoom)
			}
			return nil
		})
		require.Len(t, records, 1)
		require.Equal(t, "ERROR", records[0]["level"])
	})
}

func TestLog_RetryDelayHasUnit(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		failures := 0
		records := logOf(t, broker, func() error {
			if failures++; failures == 1 {
				return ezq.RetryAfter(411*time.Millisecond+3, errBoom)
			}
			return nil
		})
		require.Equal(t, "411ms", records[0]["retry_in"])
	})
}

func TestLog_UnhandledDeadLetterNamesEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(`{"_type":"Unheard"}`))))
		refuse := func(message.HandlerFunc) message.HandlerFunc {
			return func(*message.Message) ([]*message.Message, error) { return nil, ezq.Permanent(errors.New("refused")) }
		}
		records := logOf(t, broker, func() error { return nil }, middleware.Poison{}.Middleware, refuse)
		require.Equal(t, "middleware: message dead-lettered", records[len(records)-1]["msg"])
		require.Equal(t, "Unheard", records[len(records)-1]["event"])
	})
}

func TestLog_UsesLoggerOfRouter(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		forgetful := &store{Store: middleware.NewMemoryStore(0), mark: errBoom}
		records := logOf(t, broker, func() error { return nil }, middleware.Deduplicate{Store: forgetful}.Middleware)
		require.Len(t, records, 1)
		require.Equal(t, "middleware: handled, but not remembered", records[0]["msg"])
	})
}
