package middleware_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// What one handler of an event has handled is new to another, in whatever order they
// succeed, and also if they share a store and a key.
func TestDeduplicate_DistinguishesHandlersOfOneEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		order := func(msg *message.Message) (string, error) { return msg.Metadata.Get("order"), nil }
		policy := middleware.Deduplicate{Store: middleware.NewMemoryStore(0), Key: order, Logger: quiet()}
		type orderShipped struct{}
		var calls []string
		does := func(what string) func(context.Context) error {
			return func(ctx context.Context) error {
				if what == "bill placed" && ezq.MetaFromContext(ctx).Failures == 0 {
					return errBoom
				}
				calls = append(calls, what)
				return nil
			}
		}
		router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
		router.Use(policy.Middleware)
		mail, bill, shipped := does("mail placed"), does("bill placed"), does("mail shipped")
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error { return mail(ctx) }, ezq.Name("mail"))
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			time.Sleep(time.Second)
			return bill(ctx)
		}, ezq.Name("bill"))
		ezq.Handle(router, func(ctx context.Context, _ orderShipped) error { return shipped(ctx) }, ezq.Name("mail"))
		for range 2 {
			for _, event := range []any{orderPlaced{7}, orderShipped{}} {
				require.NoError(t, ezq.Publish(t.Context(), broker, event, ezq.Header("order", "7")))
			}
		}
		run(t, router, time.Hour)
		slices.Sort(calls)
		require.Equal(t, []string{"bill placed", "mail placed", "mail shipped"}, calls)
	})
}

func TestDeduplicate_DistinguishesHandlersAndTopics(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		policy := deduplicate()
		policy.Store = middleware.NewMemoryStore(0)
		type userLeft struct{}
		var calls atomic.Int32
		router := newRouter(broker, policy.Middleware)
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls.Add(1); return nil })
		ezq.Handle(router, func(context.Context, userLeft) error { calls.Add(1); return nil })
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls.Add(1); return nil }, ezq.Topic("other"))
		for range 2 {
			require.NoError(t, broker.Publish("ezq", message.NewMessage("same", []byte(`{"_type":"OrderPlaced"}`))))
			require.NoError(t, broker.Publish("ezq", message.NewMessage("same", []byte(`{"_type":"userLeft"}`))))
			require.NoError(t, broker.Publish("other", message.NewMessage("same", []byte(`{"_type":"OrderPlaced"}`))))
		}
		run(t, router, time.Second)
		require.EqualValues(t, 3, calls.Load())
	})
}

func TestDeduplicate_ConfusesNoHandlerAndKey(t *testing.T) {
	t.Parallel()
	store := middleware.NewMemoryStore(0)
	handler, calls := counting()
	pairs := [][2]string{{`a`, `b" c`}, {`a" "b`, `c`}, {`a" b`, `c`}, {"", `"a" "b" c`}, {`a b`, `c`}, {`a`, `b c`}}
	for _, pair := range pairs {
		policy := middleware.Deduplicate{Store: store, Handler: pair[0], Logger: quiet()}
		policy.Key = func(*message.Message) (string, error) { return pair[1], nil }
		_, err := policy.Middleware(handler)(plainMessage(t))
		require.NoError(t, err)
	}
	require.EqualValues(t, len(pairs), calls.Load())
}

// The first one waits in its batch, and then for a place to be handled. The others, which
// wait for the first, must not hold all places.
func TestDeduplicate_DuplicatesDoNotBlockTheirBatch(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 2, Logger: quiet()})
		router.Use(deduplicate().Middleware)
		start := time.Now()
		handled := 0
		ezq.HandleBatch(router, func(_ context.Context, orders []orderPlaced) error {
			handled += len(orders)
			assert.Equal(t, time.Second, time.Since(start))
			return nil
		})
		for range 5 {
			require.NoError(t, broker.Publish("ezq", message.NewMessage("same", []byte(`{"_type":"OrderPlaced"}`))))
		}
		run(t, router, time.Minute)
		require.Equal(t, 1, handled)
		require.EqualValues(t, 5, router.Stats()["ezq"].Succeeded)
	})
}

func TestDeduplicate_RecognizesFormerEventName(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		type Renamed struct{ ID int }
		store := middleware.NewMemoryStore(0)
		msg := message.NewMessage("1", []byte(`{"_type":"OrderPlaced","ID":1}`))
		handled := 0
		for _, attach := range []func(*ezq.Router){
			func(r *ezq.Router) {
				ezq.Handle(r, func(context.Context, orderPlaced) error { handled++; return nil })
			},
			func(r *ezq.Router) {
				ezq.Handle(r, func(context.Context, Renamed) error { handled++; return nil }, ezq.Alias("OrderPlaced"))
			},
		} {
			router := newRouter(broker, middleware.Deduplicate{Store: store, Logger: quiet()}.Middleware)
			attach(router)
			require.NoError(t, broker.Publish("ezq", msg.Copy()))
			run(t, router, time.Minute)
		}
		require.Equal(t, 1, handled)
	})
}
