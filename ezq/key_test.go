package ezq_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// publishKeyed publishes one event for each id. Any goroutine may call it.
func publishKeyed(t *testing.T, broker *memory.Broker, key string, ids ...int) {
	t.Helper()
	for _, id := range ids {
		if err := ezq.Publish(t.Context(), broker, orderPlaced{id}, ezq.Key(key)); err != nil {
			t.Error(err)
		}
	}
}

func TestKey_RunsEventsSinglyInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 4})
		var mu sync.Mutex
		seen := map[string][]int{}
		busy := map[string]bool{}
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			key := ezq.MetaFromContext(ctx).Headers["x-pgmq-group"]
			mu.Lock()
			assert(t, !busy[key])
			busy[key] = true
			seen[key] = append(seen[key], e.ID)
			mu.Unlock()
			time.Sleep(rand.N(time.Second))
			mu.Lock()
			busy[key] = false
			mu.Unlock()
			return nil
		})
		for i := range 100 {
			publishKeyed(t, broker, fmt.Sprint("key ", i%7), i)
		}
		publish(t, broker, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		total := 0
		for _, ids := range seen {
			require.IsIncreasing(t, ids)
			total += len(ids)
		}
		require.Equal(t, 100, total)
		require.Empty(t, remaining(t, broker))
	})
}

func TestKey_WhenBusyDelaysLaterEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var work gauge
		ezq.Handle(router, func(context.Context, orderPlaced) error { work.during(time.Minute); return nil })
		publishKeyed(t, broker, "a", 1, 2)
		time.AfterFunc(90*time.Second, func() { publishKeyed(t, broker, "a", 3) }) // the first is done, the second is not
		runFor(t, router, time.Hour)
		require.EqualValues(t, 3, work.total.Load())
		require.EqualValues(t, 1, work.most.Load())
	})
}

func TestKey_WhenBusyDelaysNoOtherKey(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 2})
		start := time.Now()
		var other time.Duration
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			if e.ID == 99 {
				other = time.Since(start)
				return nil
			}
			time.Sleep(time.Minute)
			return nil
		})
		publishKeyed(t, broker, "hot", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		publishKeyed(t, broker, "cold", 99)
		publish(t, broker, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.Zero(t, other)
		require.Equal(t, 10*time.Minute, time.Since(start))
	})
}

// What a flood of one key costs the others: the time that its events take one after the other, but for
// ten times Config.Concurrency of them, which wait aside.
func TestKey_FloodDelaysOthersUntilItsRestIsParked(t *testing.T) {
	const concurrency = 4
	for flood, want := range map[int]time.Duration{
		10 * concurrency:  0,
		100 * concurrency: 90 * concurrency * time.Second,
	} {
		t.Run(fmt.Sprintf("%d events", flood), func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{Concurrency: concurrency})
				var others gauge
				start, last := time.Now(), -1
				ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
					assert(t, e.ID == last+1)
					last = e.ID
					time.Sleep(time.Second)
					return nil
				})
				ezq.Handle(router, func(context.Context, mailDue) error { others.during(0); return nil })
				for i := range flood {
					publishKeyed(t, broker, "of the flood", i)
				}
				publish(t, broker, mailDue{1}, mailDue{2}, ezq.EndEvent{Timeout: time.Hour})
				require.NoError(t, router.Run(t.Context()))
				require.EqualValues(t, 2, others.total.Load())
				require.InDelta(t, want.Seconds(), others.lastAfter(start).Seconds(), concurrency)
				require.Equal(t, flood-1, last)
			})
		})
	}
}

func TestKey_ReleasesWaitingEventsWhenRouterStops(t *testing.T) {
	for name, stop := range map[string]func(router *ezq.Router, cancel func()){
		"the context ends": func(_ *ezq.Router, cancel func()) { cancel() },
		"the topic is paused": func(router *ezq.Router, cancel func()) {
			_ = router.Pause("ezq")
			cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				ctx, cancel := context.WithCancel(t.Context())
				router := newRouter(broker, ezq.Config{})
				ezq.Handle(router, func(context.Context, orderPlaced) error { time.Sleep(5 * time.Second); return nil })
				publishKeyed(t, broker, "a", 1, 2, 3)
				start := time.Now()
				time.AfterFunc(time.Second, func() { stop(router, cancel) })
				require.NoError(t, router.Run(ctx))
				require.Equal(t, 5*time.Second, time.Since(start))
				rest := remaining(t, broker)
				require.Len(t, rest, 2)
				require.Zero(t, rest[0].Failures)
			})
		})
	}
}

func TestKey_RunsOnceAcrossPause(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var work gauge
		ezq.Handle(router, func(context.Context, orderPlaced) error { work.during(10 * time.Second); return nil })
		publishKeyed(t, broker, "a", 1, 2, 3)
		time.AfterFunc(time.Second, func() { _ = router.Pause("ezq") })
		time.AfterFunc(2*time.Second, func() { _ = router.Resume("ezq") })
		runFor(t, router, time.Minute)
		require.EqualValues(t, 1, work.most.Load())
		require.EqualValues(t, 3, work.total.Load())
	})
}

func TestKey_IsNotBlockedByFailingEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var ids []int
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			ids = append(ids, e.ID)
			if e.ID == 1 && ezq.MetaFromContext(ctx).Failures == 0 {
				return errBoom
			}
			return nil
		})
		publishKeyed(t, broker, "a", 1, 2, 3)
		runFor(t, router, time.Minute)
		require.Equal(t, []int{1, 2, 3, 1}, ids)
	})
}

func TestKey_MustBeText(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, ezq.Publish(t.Context(), memory.New(nil), orderPlaced{}, ezq.Key("")), "the key is empty")
	require.ErrorContains(t, ezq.Publish(t.Context(), memory.New(nil), orderPlaced{}, ezq.Key("\x00")), "NUL")
}

// Others have had it in the meantime.
func TestLease_LostWhileWaitingPreventsHandling(t *testing.T) {
	for name, options := range map[string][]ezq.HandleOption{
		"the lease is lost while the event waits for its key":     nil,
		"the lease is lost while the event waits for its handler": {ezq.Concurrency(1)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *memory.Broker) {
				broker := memory.New(&memory.Config{MaxExtension: time.Minute, Logger: quiet()})
				defer func() { require.NoError(t, broker.Close()) }()
				router := newRouter(broker, ezq.Config{Concurrency: 4})
				var begun []int
				ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
					assert(t, ctx.Err() == nil)
					begun = append(begun, e.ID)
					if len(begun) == 1 {
						time.Sleep(100 * time.Second) // beyond MaxExtension
					}
					return nil
				}, options...)
				ezq.Handle(router, ignore[mailDue]) // for whose sake more is taken
				if options == nil {
					publishKeyed(t, broker, "key", 1, 2)
				} else {
					publish(t, broker, orderPlaced{1}, orderPlaced{2})
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				require.NoError(t, router.Run(ctx))
				require.Len(t, begun, 3, "the first comes twice")
				require.Empty(t, remaining(t, broker))
			})
		})
	}
}
