package watermilltest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	watermill "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/sony/gobreaker"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

var errBoom = errors.New("boom")

type orderPlaced struct{ ID int }

// handled runs fn in an ezq router, in virtual time, until one event is done or an
// hour has passed. It returns the dead letters.
func handled(t *testing.T, broker *memory.Broker, fn func(context.Context, orderPlaced) error, wrap ...message.HandlerMiddleware) (dead []*message.Message) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Hour)
	defer stop()
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	router.Use(wrap...)
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		err := fn(ctx, e)
		if err == nil {
			stop()
		}
		return err
	})
	require.NoError(t, router.Run(ctx))

	ctx, stop = context.WithTimeout(t.Context(), time.Hour)
	defer stop()
	deadLetters, err := broker.Subscribe(ctx, "ezq_dead")
	require.NoError(t, err)
	for deadLetter := range deadLetters {
		dead = append(dead, deadLetter)
		deadLetter.Ack()
	}
	return dead
}

// withEvent runs f in a bubble, with a queue that has one event.
func withEvent(t *testing.T, f func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{7}, ezq.Header(watermill.CorrelationIDMetadataKey, "request 42")))
		f(t, broker)
	})
}

func poison() message.HandlerMiddleware {
	return middleware.Poison{Logger: quiet()}.Middleware
}

func TestWatermillCorrelationID_WorksBesideOurs(t *testing.T) {
	withEvent(t, func(t *testing.T, broker *memory.Broker) {
		calls := 0
		dead := handled(t, broker, func(ctx context.Context, _ orderPlaced) error {
			assert.Equal(t, "request 42", ezq.MetaFromContext(ctx).Headers[watermill.CorrelationIDMetadataKey])
			assert.Equal(t, "request 42", ezq.CorrelationIDFromContext(ctx))
			if calls++; calls < 3 {
				return errBoom
			}
			return nil
		}, watermill.CorrelationID, middleware.CorrelationID{}.Middleware)
		require.Equal(t, 3, calls)
		require.Empty(t, dead)
	})
}

func TestCorrelationID_UsesKeyOfWatermill(t *testing.T) {
	t.Parallel()
	msg := message.NewMessage("1", nil)
	watermill.SetCorrelationID("from Watermill", msg)
	handle := middleware.CorrelationID{}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
		require.Equal(t, "from Watermill", ezq.CorrelationIDFromContext(msg.Context()))
		return []*message.Message{message.NewMessage("2", nil)}, nil
	})
	out, err := handle(msg)
	require.NoError(t, err)
	require.Equal(t, "from Watermill", watermill.MessageCorrelationID(out[0]))
}

func TestDeadLetter_UsesKeysOfWatermill(t *testing.T) {
	t.Parallel()
	require.Equal(t, watermill.ReasonForPoisonedKey, backend.DeadLetterReason)
	require.Equal(t, watermill.PoisonedTopicKey, backend.DeadLetterTopic)
	require.Equal(t, watermill.PoisonedHandlerKey, backend.DeadLetterHandler)
}

func TestWatermillRecoverer_WorksWithOurPolicies(t *testing.T) {
	withEvent(t, func(t *testing.T, broker *memory.Broker) {
		calls := 0
		dead := handled(t, broker, func(context.Context, orderPlaced) error {
			calls++
			panic("boom")
		}, middleware.Retry{Attempts: 3}.Middleware, poison(), watermill.Recoverer)
		require.Equal(t, 3, calls, "a panic is a failure like any other")
		require.Len(t, dead, 1)
		require.Contains(t, dead[0].Metadata[backend.DeadLetterReason], "boom")
		require.LessOrEqual(t, len(dead[0].Metadata[backend.DeadLetterReason]), 1024)
	})
}

func TestWatermillRecoverer_CatchesPanickingMiddleware(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{Number: 1, DeadLetters: true}
	msg := message.NewMessage("1", nil)
	msg.SetContext(backend.WithDelivery(t.Context(), d))
	policy := middleware.Poison{Topic: "dead", Logger: quiet()}
	handle := middleware.Retry{Attempts: 1}.Middleware(policy.Middleware(watermill.Recoverer(
		func(*message.Message) ([]*message.Message, error) { panic("boom") })))
	_, err := handle(msg)
	require.NoError(t, err)
	v, _ := d.Disposition()
	require.NotNil(t, v.Target)
	require.LessOrEqual(t, len(v.Target.Metadata[backend.DeadLetterReason]), 1024, "its text has the whole stack")
}

func TestWatermillCircuitBreaker_WorksWithOurPolicies(t *testing.T) {
	withEvent(t, func(t *testing.T, broker *memory.Broker) {
		breaker := watermill.NewCircuitBreaker(gobreaker.Settings{
			Timeout:     time.Minute,
			ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= 2 },
		})
		start := time.Now()
		calls, passed := 0, 0
		observe := func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				passed++
				return next(msg)
			}
		}
		dead := handled(t, broker, func(context.Context, orderPlaced) error {
			if calls++; time.Since(start) < time.Minute {
				return errBoom
			}
			return nil
		}, middleware.Retry{}.Middleware, poison(), observe, breaker.Middleware)
		require.Empty(t, dead)
		require.Equal(t, 3, calls, "twice until it opens, and once when it is half open")
		require.Less(t, passed, 10, "while it is open the event comes back at Retry's pace, not in a hot loop")
		require.Greater(t, time.Since(start), time.Minute)
	})
}
