package middleware_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// placement is where in an ezq router Retry and Poison are.
type placement struct {
	name                string
	ofRouter, ofHandler []message.HandlerMiddleware
}

// placements are all there are.
func placements(retry, poison message.HandlerMiddleware) []placement {
	type both = []message.HandlerMiddleware
	return []placement{
		{name: "router: Retry, Poison", ofRouter: both{retry, poison}},
		{name: "router: Poison, Retry", ofRouter: both{poison, retry}},
		{name: "handler: Retry, Poison", ofHandler: both{retry, poison}},
		{name: "handler: Poison, Retry", ofHandler: both{poison, retry}},
		{name: "router: Retry; handler: Poison", ofRouter: both{retry}, ofHandler: both{poison}},
		{name: "router: Poison; handler: Retry", ofRouter: both{poison}, ofHandler: both{retry}},
	}
}

func TestRetryAndPoison_WorkInEitherOrder(t *testing.T) {
	for _, place := range placements(
		middleware.Retry{Attempts: 3}.Middleware,
		middleware.Poison{Logger: quiet()}.Middleware,
	) {
		t.Run(place.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, place.ofRouter...)
				var calls [4]int
				ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
					calls[e.ID]++
					switch {
					case e.ID == 1:
						return ezq.Permanent(errBoom)
					case e.ID == 2:
						panic("boom")
					case e.ID == 3 && calls[3] == 3:
						return nil // at the last moment
					}
					return errBoom
				}, ezq.Use(place.ofHandler...))
				publish(t, broker, orderPlaced{0}, orderPlaced{1}, orderPlaced{2}, orderPlaced{3})
				run(t, router, time.Hour)
				require.Equal(t, [4]int{3, 1, 3, 3}, calls)

				failures := map[string]string{}
				for _, dead := range drain(t, broker, "ezq_dead") {
					failures[string(dead.Payload)] = dead.Metadata.Get(backend.DeadLetterFailures)
				}
				require.Equal(t, map[string]string{
					`{"_type":"OrderPlaced","ID":0}`: "3",
					`{"_type":"OrderPlaced","ID":1}`: "1",
					`{"_type":"OrderPlaced","ID":2}`: "3",
				}, failures)
				require.Empty(t, drain(t, broker, "ezq"))
			})
		})
	}
}

func TestRetryAndPoison_WorkInEitherOrderInProcess(t *testing.T) {
	t.Parallel()
	for i := range placements(nil, nil) {
		var dead recorder
		place := placements(
			middleware.Retry{Attempts: 3, Delay: time.Microsecond}.Middleware,
			middleware.Poison{To: &dead, Logger: quiet()}.Middleware,
		)[i]
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			queue := newGoChannel(t)
			router := newRouter(queue, place.ofRouter...)
			var calls [2]atomic.Int32
			ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
				calls[e.ID].Add(1)
				if e.ID == 1 {
					return ezq.Permanent(errBoom)
				}
				return errBoom
			}, ezq.Use(place.ofHandler...))
			publish(t, queue, orderPlaced{0}, orderPlaced{1})
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- router.Run(ctx) }()
			require.Eventually(t, func() bool { return dead.len() == 2 }, 10*time.Second, time.Millisecond)
			stop()
			require.NoError(t, <-ended)
			require.EqualValues(t, 3, calls[0].Load())
			require.EqualValues(t, 1, calls[1].Load())
			for i, deadLetter := range dead.msgs {
				require.Equal(t, "ezq_dead", dead.topics[i])
				want := map[bool]string{true: "1", false: "3"}[string(deadLetter.Payload) == `{"_type":"OrderPlaced","ID":1}`]
				require.Equal(t, want, deadLetter.Metadata.Get(backend.DeadLetterFailures))
			}
		})
	}
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.msgs)
}

func TestPoison_OfHandlerReplacesThatOfRouter(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Poison{Logger: quiet()}.Middleware, middleware.Retry{Attempts: 2}.Middleware)
		ezq.Handle(router, func(context.Context, orderPlaced) error { return errBoom },
			ezq.Use(middleware.Poison{Topic: "bad_orders", Logger: quiet()}.Middleware))
		publish(t, broker, orderPlaced{1})
		require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(`{"_type":"Unheard"}`))))
		run(t, router, time.Hour)
		require.Len(t, drain(t, broker, "bad_orders"), 1)
		require.Len(t, drain(t, broker, "ezq_dead"), 1, "what no handler takes is for the router's")
	})
}
