package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

type numbered struct{ ID int }

// What the pause releases is stored before the next subscription receives anything,
// whether the handler that was at work is done by then or goes on.
func TestPause_EndingAtOnceKeepsKeyOrder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		goesOn, leaseOnly bool
		every             int // events from pause to pause
	}{
		"the handler returns": {every: 50}, "the handler returns, and messages are leased": {every: 50, leaseOnly: true},
		// A resumption waits for its handler for 5 s.
		"the handler goes on": {every: 100, goesOn: true}, "the handler goes on, and messages are leased": {every: 100, goesOn: true, leaseOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: test.leaseOnly}})
			const n = 200
			events := make([]any, n)
			for i := range events {
				events[i] = numbered{i}
			}
			require.NoError(t, ezq.PublishBatch(t.Context(), client, events, ezq.Key("a")))
			router := newRouter(client, ezq.Config{Concurrency: 2})
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			var order []int
			begun, goOn := make(chan struct{}), make(chan struct{})
			ezq.Handle(router, func(_ context.Context, e numbered) error {
				if order = append(order, e.ID); len(order) == n {
					stop()
				}
				if e.ID%test.every == 0 {
					begun <- struct{}{}
					<-goOn
				}
				return nil
			})
			ended := make(chan error)
			go func() { ended <- router.Run(ctx) }()
			for range n / test.every {
				<-begun
				pgtest.Eventually(t, patience, "others wait for their turn", func() bool { return router.Stats()["ezq"].InFlight > 10 })
				before := router.Stats()["ezq"].Claimed
				require.NoError(t, router.Pause("ezq"))
				require.NoError(t, router.Resume("ezq"))
				if test.goesOn {
					pgtest.Eventually(t, patience, "they come again", func() bool { return router.Stats()["ezq"].Claimed > before })
				}
				goOn <- struct{}{}
			}
			require.NoError(t, <-ended)
			require.Len(t, order, n)
			require.IsIncreasing(t, order)
		})
	}
}

// Its end leases some of them, and a release of those comes later.
func TestLockedBatch_ReleasedMessagesKeepTheirPlace(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	publish(t, client, "a", "b", "c")
	locked, claim, ok, err := store.(subscription.Locker).Lock(t.Context(), 3, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	tokens, err := locked.Finish(t.Context(), nil, []subscription.Token{claim.Leases[2].Token}, time.Minute)
	require.NoError(t, err)
	_, err = store.Settle(t.Context(), []subscription.Settlement{{Token: tokens[0], Action: subscription.Release}})
	require.NoError(t, err)
	for _, l := range claim.Leases {
		again, err := store.Claim(t.Context(), nil, 1, time.Minute)
		require.NoError(t, err)
		require.Equal(t, l.ID, again.Leases[0].ID)
	}
}
