package ezq_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

var errTheirs = errors.New("theirs")

type traceKey struct{}

// What middleware of the Watermill router does with a message, and what comes of that:
// how often the handler is called for two events, and with which outcomes.
func TestAttach_WatermillMiddlewareDecidesOutcome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		middleware message.HandlerMiddleware
		fails      bool // the handler, at first
		calls      int32
		stats      ezq.TopicStats
	}{
		"a middleware that returns nil has the event acked": {
			middleware: func(message.HandlerFunc) message.HandlerFunc {
				return func(*message.Message) ([]*message.Message, error) { return nil, nil }
			},
			stats: ezq.TopicStats{Claimed: 2, Succeeded: 2},
		},
		"the error of a middleware is a failure": {
			middleware: firstFails(func(message.HandlerFunc, *message.Message) ([]*message.Message, error) { return nil, errTheirs }),
			calls:      2,
			stats:      ezq.TopicStats{Claimed: 4, Succeeded: 2, Failed: 2},
		},
		"the nack of a middleware is a failure": {
			middleware: firstFails(func(_ message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
				msg.Nack()
				return nil, nil
			}),
			calls: 2,
			stats: ezq.TopicStats{Claimed: 4, Succeeded: 2, Failed: 2},
		},
		"a context that is lost is a failure": {
			middleware: firstFails(func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
				return h(msg.Copy())
			}),
			calls: 2,
			stats: ezq.TopicStats{Claimed: 4, Succeeded: 2, Failed: 2},
		},
		"a copy that keeps the context fails with its original": {
			middleware: func(h message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) { return h(msg.CopyWithContext()) }
			},
			fails: true, calls: 4,
			stats: ezq.TopicStats{Claimed: 4, Succeeded: 2, Failed: 2},
		},
		"a middleware that calls the handler again calls nothing": {
			middleware: func(h message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) { _, _ = h(msg); return h(msg) }
			},
			fails: true, calls: 4,
			stats: ezq.TopicStats{Claimed: 4, Succeeded: 2, Failed: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := memory.New(&memory.Config{Logger: quiet()})
			router := newRouter(broker, ezq.Config{Concurrency: 1})
			var calls atomic.Int32
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				calls.Add(1)
				if test.fails && ezq.MetaFromContext(ctx).Failures == 0 {
					return ezq.RetryAfter(0, errBoom)
				}
				return nil
			})
			attach(t, router, test.middleware)
			publish(t, broker, orderPlaced{1}, orderPlaced{2})
			require.Eventually(t, func() bool { return router.Stats()["ezq"].Succeeded == 2 }, 20*time.Second, time.Millisecond)
			stats := router.Stats()["ezq"]
			stats.LastFailure = time.Time{}
			require.Equal(t, test.stats, stats)
			require.Equal(t, test.calls, calls.Load())
		})
	}
}

// firstFails is middleware that keeps away the first delivery of each message.
func firstFails(with func(message.HandlerFunc, *message.Message) ([]*message.Message, error)) message.HandlerMiddleware {
	return func(h message.HandlerFunc) message.HandlerFunc {
		var seen callCounts
		return func(msg *message.Message) ([]*message.Message, error) {
			if seen.add(msg.UUID) == 1 {
				return with(h, msg)
			}
			return h(msg)
		}
	}
}

// Watermill's InstantAck acks before it calls the handler, which may see that or not.
func TestAttach_HandlesEventAckedFirst(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: 2})
	var calls, running atomic.Int32
	ezq.Handle(router, func(context.Context, orderPlaced) error {
		assert(t, running.Add(1) <= 2)
		defer running.Add(-1)
		calls.Add(1)
		return errBoom
	})
	attach(t, router, func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msg.Ack()
			if msg.UUID[len(msg.UUID)-1]%2 == 0 {
				<-msg.Context().Done() // the backend knows
			}
			return h(msg)
		}
	})
	const n = 50
	for i := range n {
		publish(t, broker, orderPlaced{i})
	}
	require.Eventually(t, func() bool { return calls.Load() == n }, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return router.Stats()["ezq"].InFlight == 0 }, 20*time.Second, time.Millisecond)
	require.Zero(t, router.Stats()["ezq"].Failed)
}

func TestAttach_HandlerSeesChangesOfWatermillMiddleware(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{})
	done := make(chan struct{})
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		meta := ezq.MetaFromContext(ctx)
		assert(t, e.ID == 8 && meta.Headers["added"] == "yes" && meta.Delivery == 1 && ctx.Value(traceKey{}) == "trace")
		close(done)
		return nil
	})
	attach(t, router, func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			front := msg.CopyWithContext()
			front.Payload = []byte(`{"_type":"OrderPlaced","id":8}`)
			front.Metadata.Set("added", "yes")
			front.SetContext(context.WithValue(front.Context(), traceKey{}, "trace"))
			return h(front)
		}
	})
	publish(t, broker, orderPlaced{7})
	within(t, done, "the event is handled")
}

func TestAttach_ReleasesEventsInMiddlewareOnClose(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: 4})
	var calls atomic.Int32
	ezq.Handle(router, func(context.Context, orderPlaced) error { calls.Add(1); return nil })
	kept, gate := make(chan struct{}, 4), make(chan struct{})
	w, _ := attach(t, router, func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			kept <- struct{}{}
			<-gate
			return h(msg)
		}
	})
	for i := range 10 {
		publish(t, broker, orderPlaced{i})
	}
	for range 4 {
		<-kept
	}
	closed := make(chan error)
	go func() { closed <- w.Close() }()
	require.Eventually(t, func() bool { return router.Stats()["ezq"].Released == 4 }, 20*time.Second, time.Millisecond,
		"while the middleware still has it")
	close(gate)
	require.NoError(t, <-closed)
	require.Zero(t, calls.Load(), "what was released is not handled as well")
	events, err := broker.Subscribe(t.Context(), "ezq")
	require.NoError(t, err)
	for range 10 {
		(<-events).Ack()
	}
}
