package pgmq_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

type numbered struct{ ID int }

// What the pause gives back is stored before the next subscription receives anything,
// whether the handler that was at work is done by then or goes on. It is about leases: where
// messages are held, the order after a pause is sometimes another one, and why is not known.
func TestAPauseThatEndsAtOnceKeepsTheOrderOfAKeyInPostgreSQL(t *testing.T) {
	t.Parallel()
	for says, goesOn := range map[string]bool{"the handler returns": false, "the handler goes on": true} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			queue, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoHold: true}})
			const n = 100
			events := make([]any, n)
			for i := range events {
				events[i] = numbered{i}
			}
			require.NoError(t, ezq.PublishBatch(t.Context(), queue, events, ezq.Key("a")))
			router := newRouter(queue, ezq.Config{Concurrency: 2})
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			var order []int
			begun, goOn := make(chan struct{}), make(chan struct{})
			ezq.Handle(router, func(_ context.Context, e numbered) error {
				if order = append(order, e.ID); len(order) == n {
					stop()
				}
				if e.ID%50 == 0 {
					begun <- struct{}{}
					<-goOn
				}
				return nil
			})
			ended := make(chan error)
			go func() { ended <- router.Run(ctx) }()
			for range n / 50 {
				<-begun
				pgtest.Eventually(t, patience, "others wait for their turn", func() bool { return router.Stats()["ezq"].InFlight > 10 })
				before := router.Stats()["ezq"].Taken
				require.NoError(t, router.Pause("ezq"))
				require.NoError(t, router.Resume("ezq"))
				if goesOn {
					pgtest.Eventually(t, patience, "they come again", func() bool { return router.Stats()["ezq"].Taken > before })
				}
				goOn <- struct{}{}
			}
			require.NoError(t, <-ended)
			require.Len(t, order, n)
			require.IsIncreasing(t, order)
		})
	}
}
