package ezq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// What one replica has no use for yet is for the other one, although that comes later.
func TestConcurrency_LeavesExcessToOtherReplicas(t *testing.T) {
	handle := func(work *gauge) func(*ezq.Router) {
		return func(r *ezq.Router) {
			ezq.Handle(r, func(context.Context, orderPlaced) error { work.during(3 * time.Second); return nil }, ezq.Concurrency(2))
		}
	}
	inBatches := func(work *gauge) func(*ezq.Router) {
		return func(r *ezq.Router) {
			ezq.HandleBatch(r, func(_ context.Context, events []orderPlaced) error {
				work.during(time.Duration(len(events)) * 3 * time.Second)
				work.total.Add(int32(len(events) - 1))
				return nil
			}, ezq.Size(3), ezq.Concurrency(1))
		}
	}
	severalEvents := func(work *gauge) func(*ezq.Router) {
		return func(r *ezq.Router) {
			handle(work)(r)
			ezq.Handle(r, ignore[mailDue], ezq.Concurrency(1))
		}
	}
	for name, handlers := range map[string]func(*gauge) func(*ezq.Router){
		"a handler of one event": handle, "a handler of batches": inBatches, "handlers of several events, each with a limit": severalEvents,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				publishOrders(t, broker, 60)
				var first, second gauge
				other := newRouter(broker, ezq.Config{})
				handlers(&second)(other)
				go func() {
					time.Sleep(time.Second)
					runFor(t, other, time.Hour)
				}()
				router := newRouter(broker, ezq.Config{})
				handlers(&first)(router)
				runFor(t, router, time.Hour)
				time.Sleep(time.Minute)
				require.EqualValues(t, 60, first.total.Load()+second.total.Load())
				require.InDelta(t, 30, second.total.Load(), 10, "a fair part")
			})
		})
	}
}

func TestBatch_WaitingForLimitDelaysNoOtherHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 4})
		var batches, others gauge
		start := time.Now()
		ezq.HandleBatch(router, func(context.Context, []orderPlaced) error { batches.during(time.Minute); return nil },
			ezq.Size(2), ezq.Concurrency(1))
		ezq.Handle(router, func(context.Context, mailDue) error { others.during(time.Second); return nil })
		publishOrders(t, broker, 20) // a batch runs, and nine wait
		publish(t, broker, mailDue{1}, mailDue{2}, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, time.Second, others.lastAfter(start))
		require.EqualValues(t, 1, batches.most.Load())
		require.EqualValues(t, 10, batches.total.Load())
	})
}

func TestBatch_BoundsWaitingEvents(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 2})
		ezq.HandleBatch(router, func(context.Context, []orderPlaced) error { time.Sleep(time.Hour); return nil },
			ezq.Size(5), ezq.Concurrency(1))
		ezq.Handle(router, ignore[mailDue])
		publishOrders(t, broker, 200)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.ErrorIs(t, router.Run(ctx), ezq.ErrDrainTimeout)
		require.LessOrEqual(t, router.Stats()["ezq"].Claimed, int64(5+5*10+5), "what runs, ten times as much, and a batch on its way")
		time.Sleep(time.Hour)
	})
}

// When the topic is paused as an event ends, the next one of its key may begin or go
// back, and none behind that may begin before it.
func TestPause_AtEventEndKeepsKeyOrder(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		var order []int
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			order = append(order, e.ID)
			if e.ID%5 == 0 {
				time.Sleep(time.Second) // until the others wait
				time.AfterFunc(time.Second/2, func() { assert(t, router.Resume("ezq") == nil) })
				return router.Pause("ezq")
			}
			return nil
		})
		const rounds = 40
		for i := range rounds {
			publishKeyed(t, broker, "a", 5*i, 5*i+1, 5*i+2, 5*i+3, 5*i+4)
		}
		runFor(t, router, time.Hour)
		require.Len(t, order, 5*rounds)
		require.IsIncreasing(t, order)
	})
}
