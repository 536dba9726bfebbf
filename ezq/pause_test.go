package ezq_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// countingBroker is a broker that counts the subscriptions to it.
type countingBroker struct {
	*memory.Broker
	begun, ended *atomic.Int32 // by their contexts
}

func (c countingBroker) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	c.begun.Add(1)
	context.AfterFunc(ctx, func() { c.ended.Add(1) })
	return c.Broker.Subscribe(ctx, topic)
}

func TestPause_LeavesNothingOfSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var begun, ended atomic.Int32
		router := newRouter(countingBroker{broker, &begun, &ended}, ezq.Config{})
		gate := make(chan struct{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			<-gate
			assert(t, ctx.Err() == nil)
			return nil
		})
		publish(t, broker, orderPlaced{1})
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		ran := make(chan error)
		go func() { ran <- router.Run(ctx) }()
		synctest.Wait()
		require.EqualValues(t, 1, router.Stats()["ezq"].InFlight)
		require.NoError(t, router.Pause("ezq"))
		time.Sleep(time.Minute)
		const n = 1000
		for range n {
			require.NoError(t, router.Resume("ezq"))
			synctest.Wait()
			require.NoError(t, router.Pause("ezq"))
			synctest.Wait()
		}
		require.EqualValues(t, n+1, begun.Load())
		require.EqualValues(t, n, ended.Load(), "all but the first, whose handler runs")
		close(gate)
		synctest.Wait()
		time.Sleep(time.Minute) // the outcome is stored
		require.EqualValues(t, n+1, ended.Load())
		stop()
		require.NoError(t, <-ran)
		require.Empty(t, remaining(t, broker))
	})
}

// What is released because of the pause keeps its place before what the subscription that
// comes after it receives, also if both happen at the same moment.
func TestPause_EndingAtOnceKeepsKeyOrder(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				rng := rand.New(rand.NewPCG(seed, 0))
				router := newRouter(broker, ezq.Config{Concurrency: 1 + rng.IntN(4)})
				var mu sync.Mutex
				order := map[string][]int{}
				ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
					mu.Lock()
					defer mu.Unlock()
					key := ezq.MetaFromContext(ctx).Headers["x-pgmq-group"]
					order[key] = append(order[key], e.ID)
					work := time.Duration(rng.IntN(1000)) * time.Millisecond
					if rng.IntN(20) == 0 {
						work *= 30
					}
					mu.Unlock()
					time.Sleep(work)
					mu.Lock()
					return nil
				})
				const n = 200
				for i := range n {
					publishKeyed(t, broker, fmt.Sprint("key ", i%3), i)
				}
				pauses := rand.New(rand.NewPCG(seed, 1))
				go func() {
					for range 50 {
						time.Sleep(time.Duration(pauses.IntN(5000)) * time.Millisecond)
						assert(t, router.Pause("ezq") == nil)
						if pauses.IntN(3) == 0 {
							time.Sleep(time.Duration(pauses.IntN(1000)) * time.Millisecond)
						} else {
							for range pauses.IntN(200) {
								runtime.Gosched()
							}
						}
						assert(t, router.Resume("ezq") == nil)
					}
				}()
				runFor(t, router, 3*time.Hour)
				total := 0
				for _, ids := range order {
					require.IsIncreasing(t, ids)
					total += len(ids)
				}
				require.Equal(t, n, total)
			})
		})
	}
}
