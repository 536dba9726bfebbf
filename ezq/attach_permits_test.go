package ezq_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// permits is middleware of a Watermill router that lets n messages through at a time.
// Of those that wait, the last one comes first.
func permits(n int) message.HandlerMiddleware {
	var mu sync.Mutex
	var waiting []chan struct{}
	leave := func() {
		mu.Lock()
		defer mu.Unlock()
		if last := len(waiting) - 1; last >= 0 {
			close(waiting[last])
			waiting = waiting[:last]
			return
		}
		n++
	}
	enter := func() <-chan struct{} {
		mu.Lock()
		defer mu.Unlock()
		permit := make(chan struct{})
		if n == 0 {
			waiting = append(waiting, permit)
			return permit
		}
		n--
		close(permit)
		return permit
	}
	return func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			<-enter()
			defer leave()
			return h(msg)
		}
	}
}

func TestAttach_PassesEventWhenItsKeyIsFree(t *testing.T) {
	t.Parallel()
	var snoozed atomic.Bool
	for name, test := range map[string]struct {
		config memory.Config
		handle func(ctx context.Context, router *ezq.Router, e orderPlaced) error
	}{
		"all events succeed": {},
		"the first event fails and comes back": {
			handle: func(ctx context.Context, _ *ezq.Router, e orderPlaced) error {
				if e.ID%3 == 0 && ezq.MetaFromContext(ctx).Failures < 2 {
					return ezq.RetryAfter(0, errBoom)
				}
				return nil
			},
		},
		"the first event is released": {
			handle: func(ctx context.Context, _ *ezq.Router, e orderPlaced) error {
				if e.ID%3 == 0 && ezq.MetaFromContext(ctx).Failures == 0 && snoozed.CompareAndSwap(false, true) {
					return ezq.Snooze(time.Millisecond)
				}
				return nil
			},
		},
		"the topic is paused and resumed": {
			handle: func(_ context.Context, router *ezq.Router, e orderPlaced) error {
				if e.ID%5 == 0 {
					assert(t, router.Pause("ezq") == nil)
					assert(t, router.Resume("ezq") == nil)
				}
				return nil
			},
		},
		"leases are lost": {
			config: memory.Config{MaxExtension: 20 * time.Millisecond},
			handle: func(ctx context.Context, _ *ezq.Router, e orderPlaced) error {
				if e.ID%10 == 0 && ezq.MetaFromContext(ctx).Delivery == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Logger = quiet()
			broker := memory.New(&test.config)
			router := newRouter(broker, ezq.Config{Concurrency: 8})
			var running, most atomic.Int32
			gate := make(chan struct{})
			ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
				<-gate
				defer running.Add(-1)
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				if test.handle != nil {
					return test.handle(ctx, router, e)
				}
				return nil
			})
			const n = 50
			for i := range n {
				publishKeyed(t, broker, "hot", i)
			}
			attach(t, router, permits(2))
			require.Eventually(t, func() bool { return router.Stats()["ezq"].InFlight >= n }, 20*time.Second, time.Millisecond)
			close(gate)
			require.Eventually(t, func() bool { return router.Stats()["ezq"].Succeeded == n }, 20*time.Second, time.Millisecond,
				"no event waits in the Watermill router for one that is not in it")
			require.EqualValues(t, 1, most.Load())
		})
	}
}

func TestAttach_EndEventFinishesEventsWaitingForKey(t *testing.T) {
	t.Parallel()
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: 4})
	const n = 20
	var order []int
	ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
		if order = append(order, e.ID); e.ID == 0 {
			for router.Stats()["ezq"].InFlight < n {
				runtime.Gosched()
			}
		}
		return nil
	})
	for i := range n {
		publishKeyed(t, broker, "hot", i)
	}
	publish(t, broker, ezq.EndEvent{})
	_, ended := attach(t, router, permits(1))
	within(t, ended, "all that came before the EndEvent is handled")
	require.Len(t, order, n)
	require.IsIncreasing(t, order)
}

// What has passed through the middleware may have to wait without a slot: until its
// batch has lingered, or for its handler. Those that are in the middleware have slots.
func TestAttach_MiddlewareTakesNoSlotFromPassedEvents(t *testing.T) {
	t.Parallel()
	const n = 20
	for name, handle := range map[string]func(router *ezq.Router, gate <-chan struct{}, one func()){
		"a batch handler": func(router *ezq.Router, gate <-chan struct{}, one func()) {
			ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
				<-gate
				for range events {
					one()
				}
				return nil
			}, ezq.Size(10), ezq.Linger(20*time.Millisecond))
		},
		"a handler with a limit": func(router *ezq.Router, gate <-chan struct{}, one func()) {
			ezq.Handle(router, func(context.Context, orderPlaced) error {
				<-gate
				one()
				return nil
			}, ezq.Concurrency(1))
			ezq.Handle(router, ignore[mailDue]) // so that more is fetched
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := memory.New(&memory.Config{Logger: quiet()})
			router := newRouter(broker, ezq.Config{Concurrency: 2})
			var handled atomic.Int32
			gate := make(chan struct{})
			handle(router, gate, func() { handled.Add(1) })
			for i := range n {
				publish(t, broker, orderPlaced{i})
			}
			attach(t, router, permits(2))
			require.Eventually(t, func() bool { return router.Stats()["ezq"].InFlight >= 3 }, 20*time.Second, time.Millisecond,
				"two have passed through the middleware, and one waits in it with a slot")
			close(gate)
			require.Eventually(t, func() bool { return handled.Load() == n }, 20*time.Second, time.Millisecond)
			require.Eventually(t, func() bool { return router.Stats()["ezq"].InFlight == 0 }, 20*time.Second, time.Millisecond)
		})
	}
}
