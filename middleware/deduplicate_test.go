package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

func deduplicate() middleware.Deduplicate { return middleware.Deduplicate{Logger: quiet()} }

// counting returns a handler that succeeds, and the number of its calls.
func counting() (message.HandlerFunc, *atomic.Int32) {
	var calls atomic.Int32
	return func(*message.Message) ([]*message.Message, error) {
		calls.Add(1)
		return nil, nil
	}, &calls
}

func TestDeduplicate_HandlesEachEventOnce(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, deduplicate().Middleware)
		calls := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls++; return nil })
		for range 3 { // a publisher that did not learn of its success
			require.NoError(t, broker.Publish("ezq", message.NewMessage("same", []byte(`{"_type":"OrderPlaced"}`))))
		}
		require.NoError(t, broker.Publish("ezq", message.NewMessage("other", []byte(`{"_type":"OrderPlaced"}`))))
		run(t, router, time.Second)
		require.Equal(t, 2, calls, "the same payload is not the same message")
		require.Empty(t, drain(t, broker, "ezq"))
	})
}

func TestDeduplicate_UsesCustomKey(t *testing.T) {
	t.Parallel()
	policy := deduplicate()
	policy.Key = func(msg *message.Message) (string, error) {
		if msg.Metadata.Get("order") == "?" {
			return "", errBoom
		}
		return msg.Metadata.Get("order"), nil
	}
	handler, calls := counting()
	handle := policy.Middleware(handler)
	for _, order := range []string{"7", "8", "7", "", ""} {
		msg := plainMessage(t)
		msg.Metadata.Set("order", order)
		_, err := handle(msg)
		require.NoError(t, err)
	}
	require.EqualValues(t, 4, calls.Load(), "without a key every message is handled")

	msg := plainMessage(t)
	msg.Metadata.Set("order", "?")
	_, err := handle(msg)
	require.ErrorIs(t, err, errBoom)
	require.EqualValues(t, 4, calls.Load())
}

func TestDeduplicate_DistinguishesTopicsOfPattern(t *testing.T) {
	t.Parallel()
	handler, calls := counting()
	handle := deduplicate().Middleware(handler)
	for _, delivery := range []*backend.Delivery{nil, {}, {PublishedTo: "orders.eu"}, {PublishedTo: "orders.us"}, {PublishedTo: "orders.eu"}} {
		msg := plainMessage(t)
		msg.UUID = "1"
		if delivery != nil {
			msg.SetContext(backend.WithDelivery(msg.Context(), delivery))
		}
		_, err := handle(msg)
		require.NoError(t, err)
	}
	require.EqualValues(t, 3, calls.Load(), "what has no topic, and one of each topic")
}

func TestDeduplicate_DistinguishesMessagesWithoutID(t *testing.T) {
	t.Parallel()
	handler, calls := counting()
	handle := deduplicate().Middleware(handler)
	for range 2 {
		_, err := handle(message.NewMessage("", nil))
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, calls.Load())
}

func TestDeduplicate_SecondWaitsForFirst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first error
		calls int32
	}{
		"the second is dropped if the first succeeds": {nil, 1},
		"the second is handled if the first fails":    {errBoom, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running sync.WaitGroup
				var calls, now atomic.Int32
				handle := deduplicate().Middleware(func(*message.Message) ([]*message.Message, error) {
					require.EqualValues(t, 1, now.Add(1), "one at a time")
					defer now.Add(-1)
					time.Sleep(time.Minute)
					if calls.Add(1) == 1 {
						return nil, test.first
					}
					return nil, nil
				})
				for range 5 {
					running.Go(func() { _, _ = handle(plainMessage(t)) })
				}
				running.Wait()
				require.Equal(t, test.calls, calls.Load())
			})
		})
	}
}

func TestDeduplicate_WaitEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle := deduplicate().Middleware(func(*message.Message) ([]*message.Message, error) {
			time.Sleep(time.Hour)
			return nil, nil
		})
		go func() { _, _ = handle(plainMessage(t)) }()
		synctest.Wait()
		d := &backend.Delivery{Number: 2, Failures: 1}
		msg := received(t, d)
		ctx, interrupt := context.WithCancelCause(msg.Context())
		msg.SetContext(ctx)
		time.AfterFunc(time.Minute, func() { interrupt(ezq.ErrInterrupted) })
		_, err := handle(msg)
		require.ErrorIs(t, err, ezq.ErrInterrupted)
		v, _ := d.Disposition()
		require.Equal(t, backend.Redelivery{InPlace: true, Uncounted: true, Failures: 1}, v.Fallback, "as if not delivered")
		time.Sleep(2 * time.Hour)
	})
}

func TestDeduplicate_ForgetsUnhandledMessages(t *testing.T) {
	t.Parallel()
	var dead recorder
	for name, first := range map[string]message.HandlerFunc{
		"a message that fails":          failing(errBoom),
		"a message that fails for good": failing(ezq.Permanent(errBoom)),
		"a message that is nacked without an error": func(msg *message.Message) ([]*message.Message, error) {
			msg.Nack()
			return nil, nil
		},
		"a message that is a dead letter on a foreign backend": middleware.Poison{Topic: "dead", To: &dead, Logger: quiet()}.Middleware(failing(ezq.Permanent(errBoom))),
		"a message whose results are still to be published": func(*message.Message) ([]*message.Message, error) {
			return []*message.Message{message.NewMessage("next", nil)}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			again, calls := counting()
			once := true
			handle := deduplicate().Middleware(func(msg *message.Message) ([]*message.Message, error) {
				if once {
					once = false
					return first(msg)
				}
				return again(msg)
			})
			_, _ = handle(plainMessage(t))
			for range 2 {
				_, err := handle(plainMessage(t))
				require.NoError(t, err)
			}
			require.EqualValues(t, 1, calls.Load(), "handled when it comes back, and then remembered")
		})
	}
}

func TestDeduplicate_HandlesInterruptedEventAgain(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		store := middleware.NewMemoryStore(0)
		publish(t, broker, orderPlaced{1}, ezq.InterruptEvent{})
		handled := 0
		for _, want := range []error{ezq.ErrInterrupted, nil} {
			router := newRouter(broker, middleware.Deduplicate{Store: store, Logger: quiet()}.Middleware)
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				if want != nil {
					<-ctx.Done()
					return ctx.Err()
				}
				handled++
				return nil
			})
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			require.ErrorIs(t, router.Run(ctx), want)
			stop()
		}
		require.Equal(t, 1, handled)
	})
}

// store fails when it is told to.
type store struct {
	middleware.Store
	seen, mark error
	ctx        context.Context
}

func (s *store) Seen(ctx context.Context, key string) (bool, error) {
	if s.seen != nil {
		return false, s.seen
	}
	return s.Store.Seen(ctx, key)
}

func (s *store) Mark(ctx context.Context, key string, window time.Duration) error {
	s.ctx = ctx
	if err := errors.Join(s.mark, ctx.Err()); err != nil {
		return err
	}
	return s.Store.Mark(ctx, key, window)
}

func TestDeduplicate_FailsWhenStoreCannotAnswer(t *testing.T) {
	t.Parallel()
	policy := deduplicate()
	policy.Store = &store{Store: middleware.NewMemoryStore(0), seen: errBoom}
	handler, calls := counting()
	_, err := policy.Middleware(handler)(plainMessage(t))
	require.ErrorIs(t, err, errBoom)
	require.Zero(t, calls.Load())
}

func TestDeduplicate_SucceedsWhenStoreCannotRemember(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	policy := middleware.Deduplicate{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	policy.Store = &store{Store: middleware.NewMemoryStore(0), mark: errBoom}
	_, err := policy.Middleware(succeeding)(plainMessage(t))
	require.NoError(t, err)
	require.Contains(t, log.String(), "boom")
}

func TestDeduplicate_RemembersSuccessAfterContextEnd(t *testing.T) {
	t.Parallel()
	s := &store{Store: middleware.NewMemoryStore(0)}
	msg := plainMessage(t)
	ctx, cancel := context.WithCancel(msg.Context())
	msg.SetContext(ctx)
	handler, calls := counting()
	handle := middleware.Deduplicate{Store: s, Logger: quiet()}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
		cancel()
		return handler(msg)
	})
	_, err := handle(msg)
	require.NoError(t, err)
	_, bounded := s.ctx.Deadline()
	require.True(t, bounded)
	_, err = handle(plainMessage(t))
	require.NoError(t, err)
	require.EqualValues(t, 1, calls.Load())
}

// Not parallel: the heap is that of all tests.
//
//nolint:paralleltest // see above
func TestMemoryStore_LongKeysTakeNoMoreMemory(t *testing.T) {
	key := func(i int) string { return fmt.Sprint(i) + strings.Repeat("k", 1<<20) }
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	s := middleware.NewMemoryStore(0)
	before := heap()
	for i := range 100 {
		require.NoError(t, s.Mark(t.Context(), key(i), time.Hour))
		require.NoError(t, s.Mark(t.Context(), key(i)[:10], time.Hour), "a part of a long text")
	}
	require.Less(t, heap()-before, int64(10<<20), "of 200 MB")
	for i := range 101 {
		seen, err := s.Seen(t.Context(), key(i))
		require.NoError(t, err)
		require.Equal(t, i < 100, seen)
	}
}

func TestMemoryStore_ForgetsAfterWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := middleware.NewMemoryStore(0)
		require.NoError(t, s.Mark(t.Context(), "a", time.Minute))
		requireSeen(t, s, true, "a")
		time.Sleep(time.Minute - 1)
		requireSeen(t, s, true, "a")
		require.NoError(t, s.Mark(t.Context(), "b", time.Minute))
		require.NoError(t, s.Mark(t.Context(), "c", 2*time.Minute))
		time.Sleep(time.Nanosecond)
		requireSeen(t, s, false, "a")
		require.NoError(t, s.Mark(t.Context(), "c", time.Minute)) // anew
		require.Equal(t, 2, middleware.Size(s), "without a goroutine")
		time.Sleep(time.Minute - 1)
		requireSeen(t, s, false, "b")
		requireSeen(t, s, true, "c")
	})
}

func TestMemoryStore_WhenFullForgetsOldest(t *testing.T) {
	t.Parallel()
	s := middleware.NewMemoryStore(3)
	for _, key := range []string{"a", "b", "a", "c", "d"} {
		require.NoError(t, s.Mark(t.Context(), key, time.Hour))
		require.LessOrEqual(t, middleware.Size(s), 3)
	}
	requireSeen(t, s, true, "a") // marked again since
	requireSeen(t, s, false, "b")
	requireSeen(t, s, true, "c")
	requireSeen(t, s, true, "d")
}

func requireSeen(t *testing.T, s middleware.Store, want bool, key string) {
	t.Helper()
	seen, err := s.Seen(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, seen, key)
}
