package ezq_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type mailDue struct{ ID int }

// gauge follows how many run at a time.
type gauge struct {
	now, most, total atomic.Int32
	last             atomic.Int64 // when it ended, in virtual time
}

func (g *gauge) during(d time.Duration) {
	g.most.Store(max(g.most.Load(), g.now.Add(1)))
	time.Sleep(d)
	g.now.Add(-1)
	g.total.Add(1)
	g.last.Store(time.Now().UnixNano())
}

func (g *gauge) lastAfter(start time.Time) time.Duration {
	return time.Unix(0, g.last.Load()).Sub(start)
}

func TestConcurrency_LimitedHandlerDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 3})
		var mails, orders gauge
		start := time.Now()
		ezq.Handle(router, func(context.Context, mailDue) error { mails.during(time.Minute); return nil }, ezq.Concurrency(1))
		ezq.Handle(router, func(context.Context, orderPlaced) error { orders.during(time.Second); return nil })
		for i := range 20 {
			publish(t, broker, mailDue{i})
		}
		for i := range 20 {
			publish(t, broker, orderPlaced{i})
		}
		publish(t, broker, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 1, mails.most.Load())
		require.EqualValues(t, 20, mails.total.Load(), "what waited when the EndEvent came is handled")
		require.EqualValues(t, 20, orders.total.Load())
		require.EqualValues(t, 2, orders.most.Load())
		require.Equal(t, 10*time.Second, orders.lastAfter(start))
	})
}

func TestConcurrency_BoundsEventsWaitingForHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{Concurrency: 2})
		ezq.Handle(router, func(context.Context, orderPlaced) error { time.Sleep(time.Second); return nil }, ezq.Concurrency(1))
		ezq.Handle(router, ignore[mailDue]) // for whose sake more is taken
		for i := range 100 {
			publish(t, broker, orderPlaced{i})
		}
		var taken int64
		time.AfterFunc(500*time.Millisecond, func() {
			taken = router.Stats()[ezq.DefaultTopic].Claimed
			stop()
		})
		require.NoError(t, router.Run(ctx))
		require.LessOrEqual(t, taken, int64(1+2*10+1))
		require.GreaterOrEqual(t, taken, int64(1+2*10))
		rest := remaining(t, broker)
		require.Len(t, rest, 99, "what waits when the context ends is released")
		for _, meta := range rest {
			require.Zero(t, meta.Failures, "to wait is not to fail")
			require.Equal(t, 1, meta.Delivery, "nor to be delivered")
		}
	})
}

func TestConcurrency_LimitsHandlersIndependently(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 2})
		var slow, fast gauge
		start := time.Now()
		ezq.Handle(router, func(context.Context, orderPlaced) error { slow.during(time.Minute); return nil },
			ezq.Name("slow"), ezq.Concurrency(1))
		ezq.Handle(router, func(context.Context, orderPlaced) error { fast.during(time.Second); return nil }, ezq.Name("fast"))
		for i := range 6 {
			publish(t, broker, orderPlaced{i})
		}
		publish(t, broker, ezq.EndEvent{Timeout: time.Hour})
		require.NoError(t, router.Run(t.Context()))
		require.EqualValues(t, 1, slow.most.Load())
		require.EqualValues(t, 6, slow.total.Load())
		require.Equal(t, 5*time.Second, fast.lastAfter(start), "one slot is with the slow handler, the other does the rest")
		require.Equal(t, 6*time.Minute, time.Since(start))
		require.Empty(t, remaining(t, broker))
	})
}

func TestConcurrency_LimitsTopicByItself(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 5, Topics: map[string]ezq.TopicConfig{"mail": {Concurrency: 2}}})
		var mails, orders gauge
		ezq.Handle(router, func(context.Context, orderPlaced) error { mails.during(time.Second); return nil }, ezq.Topic("mail"))
		ezq.Handle(router, func(context.Context, orderPlaced) error { orders.during(time.Second); return nil })
		for i := range 10 {
			publish(t, broker, orderPlaced{i})
			require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{i}, ezq.Topic("mail")))
		}
		runFor(t, router, time.Minute)
		require.EqualValues(t, 2, mails.most.Load())
		require.EqualValues(t, 5, orders.most.Load())
	})
}

func TestPause_LastsUntilResume(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{Concurrency: 2, DrainTimeout: time.Minute})
		var work gauge
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			select {
			case <-ezq.StoppingFromContext(ctx):
				t.Error("a pause is not a stop")
			default:
			}
			work.during(10 * time.Second)
			assert(t, ctx.Err() == nil)
			return nil
		})
		require.NoError(t, router.Pause("ezq"))
		require.NoError(t, router.Pause("ezq"), "twice is once")
		require.EqualError(t, router.Pause("other"), `ezq: Pause: the router has no handlers on topic "other"`)
		for i := range 6 {
			publish(t, broker, orderPlaced{i})
		}
		ended := make(chan error)
		go func() { ended <- router.Run(ctx) }()
		time.Sleep(time.Hour)
		require.Zero(t, work.now.Load(), "a router may be paused before it runs")

		require.NoError(t, router.Resume("ezq"))
		time.Sleep(5 * time.Second)
		require.EqualValues(t, 2, work.now.Load())
		require.NoError(t, router.Pause("ezq"))
		time.Sleep(time.Hour)
		require.EqualValues(t, 2, work.total.Load(), "those that ran went on, and no more began")

		events, err := broker.Subscribe(t.Context(), "ezq")
		require.NoError(t, err)
		(<-events).Ack() // no router has hoarded it

		for range 3 {
			require.NoError(t, router.Pause("ezq"))
			require.NoError(t, router.Resume("ezq"))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, work.most.Load(), int32(2), "also across a pause")
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, router.Resume("ezq"), "later is harmless")
	})
}
