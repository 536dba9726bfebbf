package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

var errBoom = errors.New("boom")

type orderPlaced struct{ ID int }

func (orderPlaced) EventName() string { return "OrderPlaced" }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// bubble runs f with a memory queue in virtual time. It fails if f leaves a
// goroutine behind.
func bubble(t *testing.T, f func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(&memory.Config{Logger: quiet()})
		t.Cleanup(func() { assert.NoError(t, broker.Close()) }) // after the routers that f has started
		f(t, broker)
	})
}

func newRouter(subscriber message.Subscriber, middleware ...message.HandlerMiddleware) *ezq.Router {
	router := ezq.NewRouter(subscriber, &ezq.Config{UnknownFor: 1, Logger: quiet()})
	router.Use(middleware...)
	return router
}

// publish publishes events in one call. Any goroutine may call it.
func publish(t *testing.T, publisher message.Publisher, events ...any) {
	t.Helper()
	assert.NoError(t, ezq.PublishBatch(t.Context(), publisher, events))
}

// run runs router for so long.
func run(t *testing.T, router *ezq.Router, d time.Duration) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	require.NoError(t, router.Run(ctx))
}

// drain returns what is in a topic, now or within a day.
func drain(t *testing.T, subscriber message.Subscriber, topic string) (msgs []*message.Message) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
	defer stop()
	messages, err := subscriber.Subscribe(ctx, topic)
	require.NoError(t, err)
	for msg := range messages {
		msgs = append(msgs, msg)
		msg.Ack()
	}
	return msgs
}

// received returns a message as a backend delivers it that keeps all promises.
func received(t *testing.T, d *backend.Delivery) *message.Message {
	t.Helper()
	d.Progress = true
	msg := message.NewMessage("id", []byte("payload"))
	msg.SetContext(backend.WithDelivery(t.Context(), d))
	return msg
}

// plainMessage returns a message as a backend delivers it that promises nothing.
func plainMessage(t *testing.T) *message.Message {
	t.Helper()
	msg := message.NewMessage("id", []byte("payload"))
	msg.SetContext(t.Context())
	return msg
}

// failing is a handler that fails with err.
func failing(err error) message.HandlerFunc {
	return func(*message.Message) ([]*message.Message, error) { return nil, err }
}

func succeeding(*message.Message) ([]*message.Message, error) { return nil, nil }

// recorder is a publisher that keeps what it is given.
type recorder struct {
	mu     sync.Mutex
	err    error
	topics []string
	msgs   []*message.Message
}

func (r *recorder) Publish(topic string, msgs ...*message.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, msg := range msgs {
		r.topics = append(r.topics, topic)
		r.msgs = append(r.msgs, msg)
	}
	return r.err
}

func (r *recorder) Close() error { return nil }

func newGoChannel(t *testing.T) *gochannel.GoChannel {
	t.Helper()
	queue := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
	t.Cleanup(func() { assert.NoError(t, queue.Close()) })
	return queue
}

// startWatermillRouter runs a router of Watermill's own until the test ends.
func startWatermillRouter(t *testing.T, subscriber message.Subscriber, handler message.NoPublishHandlerFunc, middleware ...message.HandlerMiddleware) {
	t.Helper()
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 5 * time.Second}, nil)
	require.NoError(t, err)
	router.AddMiddleware(middleware...)
	router.AddConsumerHandler("handler", "orders", subscriber, handler)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(t.Context()) }()
	<-router.Running()
	t.Cleanup(func() {
		assert.NoError(t, router.Close())
		assert.NoError(t, <-ended)
	})
}

func TestPolicies_PanicOnWiringMistake(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]message.HandlerMiddleware{
		"Retry.Attempts":       middleware.Retry{Attempts: -1}.Middleware,
		"Retry.Delay":          middleware.Retry{Delay: -1}.Middleware,
		"Retry.MaxDelay":       middleware.Retry{MaxDelay: -1}.Middleware,
		"Poison.MaxDeliveries": middleware.Poison{MaxDeliveries: -1}.Middleware,
		"Timeout.After":        middleware.Timeout{After: -1}.Middleware,
		"Throttle.Count":       middleware.Throttle{Count: -1}.Middleware,
		"Throttle.Per":         middleware.Throttle{Per: -1}.Middleware,
		"Throttle.Burst":       middleware.Throttle{Burst: -1}.Middleware,
		"Deduplicate.Window":   middleware.Deduplicate{Window: -1}.Middleware,
	} {
		t.Run(name, func(t *testing.T) {
			want := fmt.Sprintf("^middleware: %s is -1(ns)?: use a positive value, or 0 for the default$", name)
			defer func() { require.Regexp(t, want, recover()) }()
			policy(succeeding)
			t.Error("it is not refused")
		})
	}
	require.PanicsWithValue(t, "middleware: the capacity of a MemoryStore is -1: use a positive value, or 0 for the default",
		func() { middleware.NewMemoryStore(-1) })
}

// policies is every policy that this package has.
func policies() map[string]message.HandlerMiddleware {
	return map[string]message.HandlerMiddleware{
		"CorrelationID": middleware.CorrelationID{}.Middleware,
		"Retry":         middleware.Retry{Delay: time.Nanosecond, Attempts: 2}.Middleware,
		"Poison":        middleware.Poison{Topic: "dead", To: &recorder{}, Logger: quiet()}.Middleware,
		"Deduplicate":   middleware.Deduplicate{Logger: quiet()}.Middleware,
		"Throttle":      middleware.Throttle{}.Middleware,
		"Timeout":       middleware.Timeout{}.Middleware,
	}
}

func TestPolicies_LeaveMessageUnchanged(t *testing.T) {
	t.Parallel()
	for name, policy := range policies() {
		for outcome, err := range map[string]error{"success": nil, "failure": errBoom, "final failure": ezq.Permanent(errBoom)} {
			t.Run(name+" after "+outcome, func(t *testing.T) {
				t.Parallel()
				msg := plainMessage(t)
				msg.Metadata.Set("tenant", "acme")
				ctx, before := msg.Context(), msg.Copy()
				_, _ = policy(failing(err))(msg)
				require.True(t, before.Equals(msg), "%v", msg)
				require.Equal(t, ctx, msg.Context())
			})
		}
	}
}

func TestPolicies_PassOnHandlerResult(t *testing.T) {
	t.Parallel()
	for name, policy := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			produced := message.NewMessage("next", nil)
			out, err := policy(func(msg *message.Message) ([]*message.Message, error) {
				require.NoError(t, msg.Context().Err())
				return []*message.Message{produced}, nil
			})(plainMessage(t))
			require.NoError(t, err)
			require.Len(t, out, 1)
			require.Equal(t, "next", out[0].UUID)
		})
	}
}
