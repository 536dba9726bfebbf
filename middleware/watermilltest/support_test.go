package watermilltest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
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

// These helpers are those of middleware_test.go in package middleware. They are copied because a
// test file of another module cannot be imported, and a package for them would be public.

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// bubble runs f with a memory queue in virtual time. It fails if f leaves a
// goroutine behind.
func bubble(t *testing.T, f func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(&memory.Config{Logger: quiet()})
		f(t, broker)
		require.NoError(t, broker.Close())
	})
}

func newRouter(subscriber message.Subscriber, middleware ...message.HandlerMiddleware) *ezq.Router {
	router := ezq.NewRouter(subscriber, &ezq.Config{UnknownFor: 1, Logger: quiet()})
	router.Use(middleware...)
	return router
}

func publish(t *testing.T, publisher message.Publisher, events ...any) {
	t.Helper()
	require.NoError(t, ezq.PublishBatch(t.Context(), publisher, events))
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

// waiting is a handler that waits for the end of its context.
func waiting(msg *message.Message) ([]*message.Message, error) {
	<-msg.Context().Done()
	return nil, msg.Context().Err()
}

// counting returns a handler that succeeds, and the number of its calls.
func counting() (message.HandlerFunc, *atomic.Int32) {
	var calls atomic.Int32
	return func(*message.Message) ([]*message.Message, error) {
		calls.Add(1)
		return nil, nil
	}, &calls
}

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

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.msgs)
}

func newGoChannel(t *testing.T) *gochannel.GoChannel {
	t.Helper()
	queue := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
	t.Cleanup(func() { assert.NoError(t, queue.Close()) })
	return queue
}

// policies is every policy of package middleware.
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

func requireWait(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.LessOrEqual(t, got, want)
	require.GreaterOrEqual(t, got, want*4/5, "jitter takes up to a fifth off")
}

func chain(h message.HandlerFunc, policies ...message.HandlerMiddleware) message.HandlerFunc {
	for _, policy := range slices.Backward(policies) {
		h = policy(h)
	}
	return h
}

func bothOrders(retry, poison message.HandlerMiddleware) map[string][]message.HandlerMiddleware {
	return map[string][]message.HandlerMiddleware{
		"Poison inside of Retry": {retry, poison},
		"Retry inside of Poison": {poison, retry},
	}
}
