package ezqtest_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq/pgmqtest"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

type (
	orderPaid      struct{ Order int }
	invoiceCreated struct{ Order int }
	reminderDue    struct{ Order int }
)

var quiet = ezq.Config{Logger: slog.New(slog.DiscardHandler)}

// billing is a program as its authors write it.
func billing(client backend.Backend) *ezq.Router {
	router := ezq.NewRouter(client, &quiet)
	router.Use(middleware.Retry{Attempts: 3, Delay: time.Hour, MaxDelay: time.Hour}.Middleware, middleware.Poison{}.Middleware)
	ezq.Handle(router, func(ctx context.Context, e orderPaid) error {
		switch {
		case e.Order < 0:
			return errors.New("no such order")
		case ezq.MetaFromContext(ctx).Failures < e.Order%2:
			return errors.New("odd orders fail once")
		}
		return ezq.Publish(ctx, client, invoiceCreated(e))
	})
	ezq.Handle(router, func(ctx context.Context, e invoiceCreated) error {
		return ezq.Publish(ctx, client, reminderDue(e), ezq.Delay(72*time.Hour))
	})
	ezq.Handle(router, func(context.Context, reminderDue) error { return nil })
	return router
}

func checkBilling(f *ezqtest.Flow) {
	f.Publish(orderPaid{2})
	f.AwaitIdle()
	ezqtest.Published[invoiceCreated](f).Equal(invoiceCreated{2})
	ezqtest.Handled[invoiceCreated](f).Equal(invoiceCreated{2})
	ezqtest.Handled[reminderDue](f).Times(0)
	f.Advance(73 * time.Hour)
	ezqtest.Handled[reminderDue](f).Times(1)

	f.Publish(orderPaid{-1})
	f.AwaitIdle()
	ezqtest.Failed[orderPaid](f).Times(1)
	f.Advance(3 * time.Hour)
	ezqtest.Failed[orderPaid](f).Times(3)
	ezqtest.DeadLettered[orderPaid](f).Equal(orderPaid{-1})
}

func TestFlow_RunsInMemory(t *testing.T) {
	t.Parallel()
	ezqtest.Run(t, billing, checkBilling)
}

func TestFlow_RunsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	ezqtest.RunOn(t, onPGMQ(t), billing, checkBilling)
}

func onPGMQ(t *testing.T) backend.Backend {
	t.Helper()
	return pgmqtest.Open(t, pgtest.Database(t), nil)
}

func TestAdvance_WaitsOnBackendWithoutForward(t *testing.T) {
	t.Parallel()
	ezqtest.RunOn(t, memory.New(nil), billing, func(f *ezqtest.Flow) {
		f.Publish(orderPaid{2}, ezq.Delay(10*time.Millisecond))
		f.Advance(20 * time.Millisecond)
		ezqtest.Handled[orderPaid](f).Times(1)
	})
}

func checkYearlyReminder(f *ezqtest.Flow) {
	f.Publish(orderPaid{3}, ezq.Delay(365*24*time.Hour)) // fails once
	f.Advance(364 * 24 * time.Hour)
	ezqtest.Failed[orderPaid](f).Times(0)
	f.Advance(100 * time.Hour)
	ezqtest.Failed[orderPaid](f).Times(1)
	ezqtest.Handled[orderPaid](f).Times(1)
	ezqtest.Handled[reminderDue](f).Times(1)
}

func TestAdvance_PassesYearAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("the memory backend", func(t *testing.T) { ezqtest.Run(t, billing, checkYearlyReminder) })
	t.Run("the PostgreSQL backend", func(t *testing.T) { ezqtest.RunOn(t, onPGMQ(t), billing, checkYearlyReminder) })
}

func TestFlow_RepeatsDisturbedDeliveries(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		disturb                      func(*ezqtest.Flow, int)
		handled, failed, interrupted int
	}{
		"a duplicated delivery":          {(*ezqtest.Flow).Duplicate, 2, 0, 0},
		"a delivery that crashes":        {(*ezqtest.Flow).Crash, 1, 1, 0},
		"a delivery whose lease expires": {(*ezqtest.Flow).LoseLease, 1, 0, 1},
	} {
		body := func(f *ezqtest.Flow) {
			test.disturb(f, 1)
			f.Publish(orderPaid{2})
			f.AwaitIdle()
			ezqtest.Handled[orderPaid](f).Times(test.handled)
			ezqtest.Failed[orderPaid](f).Times(test.failed)
			ezqtest.Interrupted[orderPaid](f).Times(test.interrupted)
			ezqtest.DeadLettered[orderPaid](f).Times(0)
		}
		t.Run(name+" in memory", func(t *testing.T) { ezqtest.Run(t, billing, body) })
		t.Run(name+" on PostgreSQL", func(t *testing.T) { ezqtest.RunOn(t, onPGMQ(t), billing, body) })
	}
}

func TestSnoozed_ListsEventsThatWerePutOff(t *testing.T) {
	t.Parallel()
	snoozing := func(client backend.Backend) *ezq.Router {
		router := ezq.NewRouter(client, &quiet)
		calls := 0
		ezq.Handle(router, func(_ context.Context, _ orderPaid) error {
			if calls++; calls == 1 {
				return ezq.Snooze(time.Hour)
			}
			return nil
		})
		return router
	}
	ezqtest.Run(t, snoozing, func(f *ezqtest.Flow) {
		f.Publish(orderPaid{1})
		f.AwaitIdle()
		ezqtest.Snoozed[orderPaid](f).Equal(orderPaid{1})
		ezqtest.Failed[orderPaid](f).Times(0)
		ezqtest.Handled[orderPaid](f).Times(0)
		f.Advance(time.Hour)
		ezqtest.Handled[orderPaid](f).Equal(orderPaid{1})
		ezqtest.Snoozed[orderPaid](f).Times(1)
	})
}

func TestAwaitIdle_ReturnsWhenRouterHasStopped(t *testing.T) {
	t.Parallel()
	ezqtest.Run(t, billing, func(f *ezqtest.Flow) {
		f.Publish(ezq.EndEvent{})
		f.AwaitIdle()
		f.Publish(orderPaid{2})
		f.AwaitIdle()
		ezqtest.Handled[orderPaid](f).Times(0)
	})
}

func TestDeliver_DeliversOneEvent(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fails := func(context.Context, orderPaid) error { return broken }
	policies := []ezq.HandleOption{ezq.Use(middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{}.Middleware)}

	o := ezqtest.Deliver(t, fails, orderPaid{1}, ezqtest.Delivery{Options: policies})
	require.ErrorIs(t, o.Err, broken)
	require.False(t, o.Done)
	require.InDelta(t, time.Second, o.RetryAfter, float64(300*time.Millisecond))

	o = ezqtest.Deliver(t, fails, orderPaid{1}, ezqtest.Delivery{Failures: 2, Options: policies})
	require.Equal(t, "ezq_dead", o.DeadLetter)
	require.Equal(t, "broken", o.Reason)

	o = ezqtest.Deliver(t, func(ctx context.Context, e orderPaid) error {
		assert.Equal(t, 1, e.Order)
		assert.Equal(t, "acme", ezq.MetaFromContext(ctx).Headers["tenant"])
		assert.Equal(t, 3, ezq.MetaFromContext(ctx).Delivery)
		return nil
	}, orderPaid{1}, ezqtest.Delivery{Failures: 2, Headers: map[string]string{"tenant": "acme"}})
	require.Equal(t, ezqtest.Outcome{Done: true}, o)

	o = ezqtest.Deliver(t, func(context.Context, orderPaid) error { panic(broken) }, orderPaid{1}, ezqtest.Delivery{})
	require.ErrorIs(t, o.Err, broken)
}
