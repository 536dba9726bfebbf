package middleware_test

import (
	"context"
	"slices"
	"sync"
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

// permutations calls yield with each order of names.
func permutations(names []string, yield func(order []string)) {
	var place func(order, left []string)
	place = func(order, left []string) {
		if len(left) == 0 {
			yield(order)
			return
		}
		for i, name := range left {
			place(append(slices.Clone(order), name), slices.Delete(slices.Clone(left), i, i+1))
		}
	}
	place(nil, names)
}

func TestPolicies_WorkInAnyOrder(t *testing.T) {
	t.Parallel()
	names := []string{"Retry", "Poison", "Timeout", "Throttle", "Deduplicate", "CorrelationID"}
	orders := 0
	permutations(names, func(order []string) {
		orders++
		synctest.Test(t, func(t *testing.T) { requireOutcomes(t, order) })
	})
	require.Equal(t, 720, orders)
}

// requireOutcomes requires that what becomes of events does not depend on the order.
func requireOutcomes(t *testing.T, order []string) {
	t.Helper()
	policies := map[string]message.HandlerMiddleware{
		"Retry":         middleware.Retry{Attempts: 3}.Middleware,
		"Poison":        middleware.Poison{Logger: quiet()}.Middleware,
		"Timeout":       middleware.Timeout{After: time.Second}.Middleware,
		"Throttle":      middleware.Throttle{Count: 1e9}.Middleware,
		"Deduplicate":   middleware.Deduplicate{Logger: quiet()}.Middleware,
		"CorrelationID": middleware.CorrelationID{}.Middleware,
	}
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker)
	for _, name := range order {
		router.Use(policies[name])
	}
	var mu sync.Mutex
	calls := map[string]int{}
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		meta := ezq.MetaFromContext(ctx)
		mu.Lock()
		calls[meta.ID]++
		mu.Unlock()
		switch {
		case meta.ID == "permanent":
			return ezq.Permanent(errBoom)
		case meta.ID == "hangs":
			<-ctx.Done()
			return ctx.Err()
		case meta.ID == "panics", meta.ID == "recovers" && meta.Failures == 0:
			panic("boom")
		}
		return nil
	})
	for _, id := range []string{"succeeds", "succeeds", "permanent", "panics", "recovers", "hangs"} {
		require.NoError(t, broker.Publish("ezq", message.NewMessage(id, []byte(`{"_type":"OrderPlaced"}`))))
	}
	run(t, router, time.Hour)
	dead := map[string]string{}
	for _, deadLetter := range drain(t, broker, "ezq_dead") {
		dead[deadLetter.UUID] = deadLetter.Metadata.Get(backend.DeadLetterFailures)
	}
	require.Equal(t, map[string]int{"succeeds": 1, "permanent": 1, "panics": 3, "recovers": 2, "hangs": 3}, calls, "%v", order)
	require.Equal(t, map[string]string{"permanent": "1", "panics": "3", "hangs": "3"}, dead, "%v", order)
	require.Empty(t, drain(t, broker, "ezq"))
	require.NoError(t, broker.Close())
}
