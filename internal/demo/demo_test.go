package demo_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/demo"
)

// atWork runs a shop for a time, and then looks at what it has.
func atWork(t *testing.T, seed uint64, d time.Duration, look func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shop := demo.New(seed)
		ctx, stop := context.WithCancel(t.Context())
		closed := make(chan error, 1)
		go func() { closed <- shop.Run(ctx) }()
		defer func() {
			stop()
			assert.NoError(t, <-closed)
		}()
		time.Sleep(d)
		synctest.Wait()
		look(t, shop.Broker())
	})
}

func letters(t *testing.T, broker *memory.Broker, topic string) []backend.FoundDeadLetter {
	t.Helper()
	found, err := broker.DeadLetters(t.Context(), topic+backend.DeadLetterSuffix, backend.DeadLetterSelection{Limit: 1000})
	require.NoError(t, err)
	return found
}

func TestShop_HasSomethingForEachPageWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	atWork(t, 1, 2*time.Second, func(t *testing.T, broker *memory.Broker) {
		for topic, event := range map[string]string{
			demo.Shipping: "ParcelWanted", demo.Emails: "EmailWanted", demo.Loyalty: "PointsEarned", demo.Imports: "ImportWanted",
		} {
			found, err := broker.Find(t.Context(), topic, backend.Selection{Event: event})
			require.NoError(t, err)
			require.NotEmpty(t, found, "%s has no %s", topic, event)
		}
		delayed, err := broker.Find(t.Context(), demo.Emails, backend.Selection{Event: "CartLeft"})
		require.NoError(t, err)
		require.NotEmpty(t, delayed)
		require.Equal(t, backend.StateDelayed, delayed[0].State)
		require.NotEmpty(t, delayed[0].UniqueKey)

		counts, err := broker.CountDeadLetters(t.Context(), demo.Orders+backend.DeadLetterSuffix, backend.DeadLetterSelection{})
		require.NoError(t, err)
		require.Greater(t, len(counts), 3, "%v", counts)
		require.NotEmpty(t, letters(t, broker, demo.Shipping))
		ofGroups := letters(t, broker, demo.Sent)
		require.NotEmpty(t, ofGroups)
		require.Equal(t, "invoicing", ofGroups[0].Group)
		bound, err := broker.Bindings(t.Context())
		require.NoError(t, err)
		require.Len(t, bound, 3)
		pauses, err := broker.Pauses(t.Context(), demo.Loyalty)
		require.NoError(t, err)
		require.Len(t, pauses, 1)
		schedules, err := broker.Schedules().List(t.Context())
		require.NoError(t, err)
		require.Len(t, schedules, 3)
		require.NotNil(t, schedules[1].Paused, "%v", schedules[1].Name)
	})
}

// A parcel that cannot be packed has an email below it, and both are still there.
func TestShop_HasTree(t *testing.T) {
	t.Parallel()
	atWork(t, 1, 2*time.Second, func(t *testing.T, broker *memory.Broker) {
		children := 0
		for _, l := range slices.Concat(letters(t, broker, demo.Shipping), letters(t, broker, demo.Orders)) {
			tree, err := ezq.FindTree(t.Context(), broker, l.ID, demo.Topics()...)
			require.NoError(t, err)
			for _, root := range tree.Roots {
				children += len(root.Children)
			}
		}
		require.Positive(t, children)
	})
}

func TestShop_IsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	failed := func(seed uint64) map[string]string {
		reasons := map[string]string{}
		atWork(t, seed, 5*time.Second, func(t *testing.T, broker *memory.Broker) {
			for _, topic := range []string{demo.Orders, demo.Shipping} {
				for _, l := range letters(t, broker, topic) {
					if !strings.Contains(l.Reason, "expired at") { // the time differs
						reasons[l.ID] = l.Reason
					}
				}
			}
		})
		return reasons
	}
	first := failed(1)
	require.NotEmpty(t, first)
	require.Equal(t, first, failed(1))
	require.NotEqual(t, slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(failed(2))))
}
