package ezq_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// callCounts counts what ran, by name.
type callCounts struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *callCounts) add(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.calls[name]++
	return c.calls[name]
}

func (c *callCounts) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.calls)
}

// runFor runs router for so long, and stops it. Any goroutine may call it.
func runFor(t *testing.T, router *ezq.Router, d time.Duration) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	if err := router.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestSeveralHandlers_RunConcurrently(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		var calls callCounts
		for _, name := range []string{"mail", "bill"} {
			ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
				assert(t, e.ID == 7 && ezq.MetaFromContext(ctx).Handler == name && ezq.MetaFromContext(ctx).Event == "OrderPlaced")
				<-time.After(time.Second)
				calls.add(name)
				return nil
			}, ezq.Name(name))
		}
		publish(t, broker, orderPlaced{7}, ezq.EndEvent{})
		start := time.Now()
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, map[string]int{"mail": 1, "bill": 1}, calls.all())
		require.Empty(t, remaining(t, broker))
	})
}

func TestSeveralHandlers_RedeliveryRunsUnfinishedOnly(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var calls callCounts
		handle := func(name string, failures int) {
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				n := calls.add(name)
				assert(t, ezq.MetaFromContext(ctx).Failures == n-1)
				if n <= failures {
					return errBoom
				}
				return nil
			}, ezq.Name(name))
		}
		handle("mail", 0)
		handle("bill", 1)
		handle("ship", 3)
		publish(t, broker, orderPlaced{1})
		runFor(t, router, time.Hour)
		require.Equal(t, map[string]int{"mail": 1, "bill": 2, "ship": 4}, calls.all(),
			"failures count once for each delivery, however many handlers fail")
		require.Empty(t, remaining(t, broker))
	})
}

func TestShared_ReportsWhetherHandlerDecidesAlone(t *testing.T) {
	for name, test := range map[string]struct {
		handle    func(router *ezq.Router, note func(ctx context.Context))
		exclusive bool
	}{
		"the only handler decides alone": {func(router *ezq.Router, note func(context.Context)) {
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error { note(ctx); return nil })
		}, true},
		"one of two handlers does not decide alone": {func(router *ezq.Router, note func(context.Context)) {
			ezq.Handle(router, ignore[orderPlaced], ezq.Name("other"))
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error { note(ctx); return nil }, ezq.Name("noting"))
		}, false},
		"the middleware of a batch does not decide alone": {func(router *ezq.Router, note func(context.Context)) {
			ezq.HandleBatch(router, ignoreAll[orderPlaced], ezq.Size(1), ezq.Use(func(next message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) { note(msg.Context()); return next(msg) }
			}))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				var seen []bool
				test.handle(router, func(ctx context.Context) { seen = append(seen, backend.ExclusiveFromContext(ctx)) })
				publish(t, broker, orderPlaced{1})
				runFor(t, router, time.Minute)
				require.Equal(t, []bool{test.exclusive}, seen)
			})
		})
	}
}

func TestSeveralHandlers_LongestRetryDelayCounts(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var again []time.Duration
		start := time.Now()
		ezq.Handle(router, func(context.Context, orderPlaced) error { return ezq.RetryAfter(time.Minute, errBoom) }, ezq.Name("a"))
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			again = append(again, time.Since(start))
			return ezq.RetryAfter(time.Second, errBoom)
		}, ezq.Name("b"))
		publish(t, broker, orderPlaced{1})
		runFor(t, router, 150*time.Second)
		require.Equal(t, []time.Duration{0, time.Minute, 2 * time.Minute}, again, "RetryAfter means not before")
	})
}

func TestSeveralHandlers_OnlyInterruptedRunsAgain(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var calls callCounts
		run := func(slow time.Duration) error {
			router := newRouter(broker, ezq.Config{})
			ezq.Handle(router, func(context.Context, orderPlaced) error { calls.add("fast"); return nil }, ezq.Name("fast"))
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				assert(t, ezq.MetaFromContext(ctx).Failures == 0)
				calls.add("slow")
				select {
				case <-time.After(slow):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}, ezq.Name("slow"))
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			return router.Run(ctx)
		}
		publish(t, broker, orderPlaced{1})
		require.ErrorIs(t, run(time.Hour), ezq.ErrDrainTimeout)
		require.NoError(t, run(0))
		require.Equal(t, map[string]int{"fast": 1, "slow": 2}, calls.all())
		require.Empty(t, remaining(t, broker))
	})
}

// deadLetterPermanent is the least of a dead-letter policy.
func deadLetterPermanent(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		out, err := next(msg)
		if ezq.IsPermanent(err) && backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"}) {
			return nil, nil
		}
		return out, err
	}
}

func TestSeveralHandlers_DeadLetterWhenNoneMayRetry(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		router.Use(deadLetterPermanent)
		var calls callCounts
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			calls.add("hopeless")
			return ezq.Permanent(errBoom)
		}, ezq.Name("hopeless"))
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			if calls.add("shaky") < 3 {
				return errBoom
			}
			return nil
		}, ezq.Name("shaky"))
		publish(t, broker, orderPlaced{1})
		runFor(t, router, time.Hour)
		require.Equal(t, map[string]int{"hopeless": 3, "shaky": 3}, calls.all())
		require.Empty(t, remaining(t, broker))
		dead, err := broker.Subscribe(t.Context(), "dead")
		require.NoError(t, err)
		(<-dead).Ack()
	})
}

func TestSeveralHandlers_SurvivePanicAndGoexitOfOne(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var calls callCounts
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			if calls.add("bad") == 1 {
				panic(errBoom)
			}
			return nil
		}, ezq.Name("bad"))
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls.add("good"); return nil }, ezq.Name("good"))
		publish(t, broker, orderPlaced{1})
		runFor(t, router, time.Hour)
		require.Equal(t, map[string]int{"bad": 2, "good": 1}, calls.all())
	})
}

func TestSeveralHandlers_RemovedOneIsNotMissed(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		before := newRouter(broker, ezq.Config{})
		ezq.Handle(before, func(context.Context, orderPlaced) error { return nil }, ezq.Name("done"))
		ezq.Handle(before, func(context.Context, orderPlaced) error { return errBoom }, ezq.Name("removed"))
		publish(t, broker, orderPlaced{1})
		runFor(t, before, time.Nanosecond)

		after := newRouter(broker, ezq.Config{})
		ezq.Handle(after, func(context.Context, orderPlaced) error { t.Error("called twice"); return nil }, ezq.Name("done"))
		runFor(t, after, time.Hour)
		require.Empty(t, remaining(t, broker))
	})
}
