package ezq_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// Where it counted, a policy for what crashes its consumers would give it up.
func TestRelease_NeverCountsDelivery(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 4})
		finish := make(chan struct{})
		var metas []ezq.Meta
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			<-finish
			metas = append(metas, ezq.MetaFromContext(ctx))
			return nil
		})
		publishKeyed(t, broker, "a", 1, 2, 3, 4, 5)
		go func() {
			for range 26 {
				synctest.Wait()
				assert(t, router.Pause(ezq.DefaultTopic) == nil)
				synctest.Wait()
				assert(t, router.Resume(ezq.DefaultTopic) == nil)
			}
			close(finish)
		}()
		runFor(t, router, time.Hour)
		require.Len(t, metas, 5)
		for _, meta := range metas {
			require.Equal(t, 1, meta.Delivery)
		}
	})
}

func TestKey_OrderSurvivesPauseAndRestart(t *testing.T) {
	pause := func(router *ezq.Router, _ func()) {
		_ = router.Pause(ezq.DefaultTopic)
		time.Sleep(time.Minute)
		_ = router.Resume(ezq.DefaultTopic)
	}
	restart := func(_ *ezq.Router, cancel func()) { cancel() }
	for name, test := range map[string]struct {
		interrupt func(router *ezq.Router, cancel func())
		work      time.Duration // of the first handler
	}{
		"a pause":                             {pause, 30 * time.Second},
		"a restart":                           {restart, 5 * time.Second},
		"a restart that interrupts a handler": {restart, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				var mu sync.Mutex
				var order, deliveries []int
				begun := func() bool {
					mu.Lock()
					defer mu.Unlock()
					return len(order) > 0
				}
				ids := make([]int, 60)
				for i := range ids {
					ids[i] = i
				}
				publishKeyed(t, broker, "a", ids...)
				for len(order) < len(ids) {
					router := newRouter(broker, ezq.Config{Concurrency: 2})
					ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
						if e.ID == 0 && ezq.MetaFromContext(ctx).Delivery == 1 {
							select {
							case <-time.After(test.work):
							case <-ctx.Done():
								return ctx.Err()
							}
						}
						mu.Lock()
						defer mu.Unlock()
						order = append(order, e.ID)
						deliveries = append(deliveries, ezq.MetaFromContext(ctx).Delivery)
						return nil
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					time.AfterFunc(time.Second, func() {
						if !begun() {
							test.interrupt(router, cancel)
						}
					})
					_ = router.Run(ctx)
					cancel()
				}
				require.Equal(t, ids, order)
				for i, n := range deliveries[1:] {
					require.Equal(t, 1, n, "of event %d", i+1)
				}
			})
		})
	}
}

func TestBatch_WhenPartialIsReleasedWithoutTrace(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publishOrders(t, broker, 5)
		for range 3 {
			router := newRouter(broker, ezq.Config{})
			ezq.HandleBatch(router, func(context.Context, []orderPlaced) error { return nil }, ezq.Size(10), ezq.Linger(time.Hour))
			runFor(t, router, time.Minute)
		}
		publish(t, broker, orderPlaced{5})
		rest := remaining(t, broker)
		require.Len(t, rest, 6)
		for _, meta := range rest {
			require.Equal(t, 1, meta.Delivery)
			require.Zero(t, meta.Failures)
		}
	})
}

// What one handler has done is kept, and the event keeps its place for the other.
func TestRelease_KeepsPlaceForUnstartedHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var fast, slow []int
		run := func(d, last time.Duration) {
			router := newRouter(broker, ezq.Config{})
			ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
				fast = append(fast, e.ID)
				return nil
			}, ezq.Name("fast"))
			ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
				assert(t, ezq.MetaFromContext(ctx).Delivery == 1)
				slow = append(slow, e.ID)
				time.Sleep(last)
				return nil
			}, ezq.Name("slow"), ezq.Concurrency(1))
			runFor(t, router, d)
		}
		publish(t, broker, orderPlaced{1})
		time.AfterFunc(100*time.Millisecond, func() { publishKeyed(t, broker, "b", 2, 3) })
		run(time.Second, 5*time.Second) // the first is being handled, and the second waits
		require.Equal(t, []int{1, 2}, fast)
		run(time.Minute, 0)
		require.Equal(t, []int{1, 2, 3}, fast)
		require.Equal(t, []int{1, 2, 3}, slow)
	})
}
