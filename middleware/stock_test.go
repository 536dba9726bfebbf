package middleware_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// What follows runs in a router of Watermill's own.

func TestWatermillRouter_RunsPoliciesOnForeignBackend(t *testing.T) {
	t.Parallel()
	for name, policies := range map[string]func(dead *recorder) []message.HandlerMiddleware{
		"Retry, Poison": func(dead *recorder) []message.HandlerMiddleware { return watermillPolicies(dead, false) },
		"Poison, Retry": func(dead *recorder) []message.HandlerMiddleware { return watermillPolicies(dead, true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := newGoChannel(t)
			var dead recorder
			var calls [3]atomic.Int32
			startWatermillRouter(t, queue, func(msg *message.Message) error {
				assert.NoError(t, msg.Context().Err())
				assert.Equal(t, msg.UUID, ezq.CorrelationIDFromContext(msg.Context()))
				switch msg.UUID {
				case "fails":
					calls[0].Add(1)
					return errBoom
				case "is permanent":
					calls[1].Add(1)
					return ezq.Permanent(errBoom)
				default:
					if calls[2].Add(1) < 3 {
						panic("at first")
					}
					return nil
				}
			}, policies(&dead)...)
			for _, id := range []string{"fails", "is permanent", "recovers", "recovers"} {
				require.NoError(t, queue.Publish("orders", message.NewMessage(id, nil)))
			}
			require.Eventually(t, func() bool { return dead.len() == 2 && calls[2].Load() == 3 }, 10*time.Second, time.Millisecond)
			require.EqualValues(t, 3, calls[0].Load())
			require.EqualValues(t, 1, calls[1].Load())
			for i, deadLetter := range dead.msgs {
				require.Equal(t, "orders_dead", dead.topics[i])
				require.Equal(t, "orders", deadLetter.Metadata.Get(backend.DeadLetterTopic))
				require.Equal(t, "handler", deadLetter.Metadata.Get(backend.DeadLetterHandler))
				require.Equal(t, "boom", deadLetter.Metadata.Get(backend.DeadLetterReason))
				want := map[string]string{"fails": "3", "is permanent": "1"}[deadLetter.UUID]
				require.Equal(t, want, deadLetter.Metadata.Get(backend.DeadLetterFailures))
			}
		})
	}
}

// watermillPolicies is all of them.
func watermillPolicies(dead message.Publisher, poisonFirst bool) []message.HandlerMiddleware {
	retry := middleware.Retry{Attempts: 3, Delay: time.Microsecond}.Middleware
	poison := middleware.Poison{To: dead, Logger: quiet()}.Middleware
	if poisonFirst {
		retry, poison = poison, retry
	}
	return []message.HandlerMiddleware{
		middleware.CorrelationID{}.Middleware, retry, poison, deduplicate().Middleware,
		middleware.Throttle{Count: 1e6}.Middleware, middleware.Timeout{}.Middleware,
	}
}

func TestWatermillRouter_RunsPoliciesOnOurBackend(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	t.Cleanup(func() { assert.NoError(t, broker.Close()) })
	deliveries := make(chan *backend.Delivery, 10)
	startWatermillRouter(t, broker, func(msg *message.Message) error {
		deliveries <- backend.DeliveryFromContext(msg.Context())
		return errBoom
	}, middleware.Poison{Logger: quiet()}.Middleware, middleware.Retry{Attempts: 3, Delay: 10 * time.Millisecond}.Middleware)

	start := time.Now()
	require.NoError(t, broker.Publish("orders", message.NewMessage("1", []byte("payload"))))
	for i := range 3 {
		d := <-deliveries
		require.Equal(t, i+1, d.Number, "a delivery for each attempt")
		require.Equal(t, i, d.Failures)
	}
	require.GreaterOrEqual(t, time.Since(start), (10+20)*time.Millisecond*4/5, "the nacks carry the delays")

	dead, err := broker.Subscribe(t.Context(), "orders_dead")
	require.NoError(t, err)
	deadLetter := <-dead
	deadLetter.Ack()
	require.Equal(t, "1", deadLetter.UUID)
	require.Equal(t, "3", deadLetter.Metadata.Get(backend.DeadLetterFailures))
	require.Equal(t, "handler", deadLetter.Metadata.Get(backend.DeadLetterHandler))
}

func TestWatermillRouter_NackCarriesDelay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err      error
		min, max time.Duration
	}{
		"a nack has the delay of the backoff":          {errBoom, 32 * time.Second, 40 * time.Second},
		"a nack has the delay that the error asks for": {ezq.RetryAfter(time.Hour, errBoom), time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &backend.Delivery{Number: 3, Failures: 2, Done: []string{"one"}}
			msg := received(t, d)
			_, err := middleware.Retry{Delay: 10 * time.Second}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
				msg.SetContext(context.Background()) // a middleware that leaves another context behind
				return nil, test.err
			})(msg)
			require.ErrorIs(t, err, errBoom)
			require.True(t, backend.Nacked(msg))
			v, ok := d.Disposition()
			require.True(t, ok)
			require.GreaterOrEqual(t, v.Fallback.Delay, test.min)
			require.LessOrEqual(t, v.Fallback.Delay, test.max)
			require.Equal(t, 3, v.Fallback.Failures)
			require.Equal(t, []string{"one"}, v.Fallback.Done)
		})
	}
}
