package ezq_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// filled returns a router with n events in its queue, and an end behind them.
func filled(tb testing.TB, n int) *ezq.Router {
	tb.Helper()
	broker := memory.New(&memory.Config{Logger: quiet()})
	events := make([]orderPlaced, n)
	for i := range events {
		events[i].ID = i
	}
	require.NoError(tb, ezq.PublishBatch(tb.Context(), broker, events))
	require.NoError(tb, ezq.Publish(tb.Context(), broker, ezq.EndEvent{}))
	router := newRouter(broker, ezq.Config{})
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
	return router
}

func BenchmarkRouter(b *testing.B) {
	router := filled(b, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	if err := router.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// They are 29: JSON makes 4 of them, Watermill's message 4, and the router itself 4.
// The backend makes some less if it settles many at once, and some more if few.
func TestRouter_AllocatesLittlePerEvent(t *testing.T) { //nolint:paralleltest // others allocate too
	const events = 5000
	router := filled(t, events)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, router.Run(t.Context()))
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, float64(after.Mallocs-before.Mallocs)/events, 36.0)
}
