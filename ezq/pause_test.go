package ezq_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// counted is a queue that counts the subscriptions to it.
type counted struct {
	*memory.Queue
	begun, ended *atomic.Int32 // by their contexts
}

func (c counted) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	c.begun.Add(1)
	context.AfterFunc(ctx, func() { c.ended.Add(1) })
	return c.Queue.Subscribe(ctx, topic)
}

func TestAPauseLeavesNothingOfItsSubscriptionBehind(t *testing.T) {
	bubble(t, func(t *testing.T, queue *memory.Queue) {
		var begun, ended atomic.Int32
		router := newRouter(counted{queue, &begun, &ended}, ezq.Config{})
		gate := make(chan struct{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			<-gate
			assert(t, ctx.Err() == nil)
			return nil
		})
		publish(t, queue, orderPlaced{1})
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		ran := make(chan error)
		go func() { ran <- router.Run(ctx) }()
		synctest.Wait()
		require.EqualValues(t, 1, router.Stats()["ezq"].InFlight)
		const n = 1000
		for range n {
			require.NoError(t, router.Pause("ezq"))
			synctest.Wait()
			require.NoError(t, router.Resume("ezq"))
			synctest.Wait()
		}
		require.EqualValues(t, n+1, begun.Load())
		require.EqualValues(t, n-1, ended.Load(), "all but the first, whose handler runs, and the last have ended")
		close(gate)
		synctest.Wait()
		time.Sleep(time.Minute) // the outcome is stored
		require.EqualValues(t, n, ended.Load())
		stop()
		require.NoError(t, <-ran)
		require.Empty(t, left(t, queue))
	})
}
