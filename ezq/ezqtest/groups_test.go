package ezqtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/middleware"
)

type (
	parcelPaid   struct{ Order int }
	parcelBilled struct{ Order int }
)

// shop is two programs on one broker: billing bills the orders of the topic orders.eu, and audit sees those of all topics.
func shop(t *testing.T, client backend.Backend, audited func(topic string), bill func(parcelPaid) error) *ezq.Router {
	audit := ezqtest.Group(client, "audit")
	auditor := ezq.NewRouter(audit, nil)
	ezq.Handle(auditor, func(ctx context.Context, _ parcelPaid) error {
		audited(ezq.MetaFromContext(ctx).PublishedTo)
		return nil
	}, ezq.Topic("orders.*"))
	ezq.Handle(auditor, func(context.Context, parcelBilled) error { return nil }, ezq.Topic("orders.*"))
	require.NoError(t, ezqtest.AddRouter(audit, auditor))

	billing := ezqtest.Group(client, "billing")
	router := ezq.NewRouter(billing, nil)
	router.Use(middleware.Poison{}.Middleware)
	ezq.Handle(router, func(ctx context.Context, e parcelPaid) error {
		if err := bill(e); err != nil {
			return err
		}
		return ezq.Publish(ctx, billing, parcelBilled(e), ezq.Topic("orders.billed"))
	}, ezq.Topic("orders.eu"))
	return router
}

// A flow of two groups, one of which takes a pattern.
func TestShop_BillsAndAuditsEachOrder(t *testing.T) {
	t.Parallel()
	var topics []string
	build := func(client backend.Backend) *ezq.Router {
		return shop(t, client, func(topic string) { topics = append(topics, topic) }, func(parcelPaid) error { return nil })
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		f.Publish(parcelPaid{1}, ezq.Topic("orders.eu"))
		f.Publish(parcelPaid{2}, ezq.Topic("orders.us"), ezq.Delay(time.Hour))
		f.AwaitIdle()
		ezqtest.Published[parcelPaid](f).Times(2)
		ezqtest.Handled[parcelPaid](f).InGroup("billing").Equal(parcelPaid{1})
		ezqtest.Handled[parcelPaid](f).InGroup("audit").Equal(parcelPaid{1})
		ezqtest.Handled[parcelBilled](f).InGroup("audit").Equal(parcelBilled{1})
		f.Advance(time.Hour)
		ezqtest.Handled[parcelPaid](f).InGroup("audit").Equal(parcelPaid{1}, parcelPaid{2})
		ezqtest.Handled[parcelPaid](f).Times(3)
		require.Equal(t, []string{"orders.eu", "orders.us"}, topics)
	})
}

// Each delivery to each group is repeated, crashed and expired.
func TestShop_IsIdempotent(t *testing.T) {
	t.Parallel()
	build := func(client backend.Backend) (*ezq.Router, func() [2]map[string]bool) {
		audited, billed := map[string]bool{}, map[string]bool{}
		router := shop(t, client, func(topic string) { audited[topic] = true }, func(parcelPaid) error { billed["one"] = true; return nil })
		return router, func() [2]map[string]bool { return [2]map[string]bool{audited, billed} }
	}
	ezqtest.CheckIdempotent(t, build, parcelPaid{1}, ezqtest.Event(parcelPaid{2}, ezq.Topic("orders.us")))
}

func TestFlow_DeadLettersOfAGroupGoBackToIt(t *testing.T) {
	t.Parallel()
	broken := true
	var client backend.Backend
	build := func(c backend.Backend) *ezq.Router {
		client = c
		return shop(t, c, func(string) {}, func(parcelPaid) error {
			if broken {
				return ezq.Permanent(errors.New("no"))
			}
			return nil
		})
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		f.Publish(parcelPaid{1}, ezq.Topic("orders.eu"))
		f.AwaitIdle()
		synctest.Wait()
		ezqtest.DeadLettered[parcelPaid](f).InGroup("billing").Times(1)
		ezqtest.DeadLettered[parcelPaid](f).InGroup("audit").Times(0)
		broken = false
		done, err := client.(backend.DeadLetterStore).Redrive(f.Context(), "orders.eu_dead", backend.DeadLetterSelection{Group: "billing"})
		require.NoError(t, err)
		require.Equal(t, 1, done.Moved)
		f.AwaitIdle()
		ezqtest.Handled[parcelPaid](f).InGroup("billing").Times(1)
		ezqtest.Handled[parcelPaid](f).InGroup("audit").Times(1)
	})
}

func TestFlow_SteersEachGroup(t *testing.T) {
	t.Parallel()
	var client backend.Backend
	build := func(c backend.Backend) *ezq.Router {
		client = c
		return shop(t, c, func(string) {}, func(parcelPaid) error { return nil })
	}
	ezqtest.Run(t, build, func(f *ezqtest.Flow) {
		audit := client.(backend.GroupPauser).PauserOf("audit")
		_, err := audit.Pause(f.Context(), "orders.*", backend.Pause{By: "a test", Reason: "a test"})
		require.NoError(t, err)
		synctest.Wait() // until its consumers have heard of it
		f.Publish(parcelPaid{1}, ezq.Topic("orders.eu"), ezq.ID("1"))
		f.AwaitIdle()
		ezqtest.Handled[parcelPaid](f).InGroup("billing").Times(1)
		ezqtest.Handled[parcelPaid](f).InGroup("audit").Times(0)
		f.Publish(parcelPaid{2}, ezq.Topic("orders.eu"), ezq.Unique("k"))
		f.AwaitIdle()
		synctest.Wait()                                                   // until the ack is stored
		f.Publish(parcelPaid{3}, ezq.Topic("orders.eu"), ezq.Unique("k")) // is there in one group
		f.AwaitIdle()
		cancelled, err := client.(backend.Canceller).Cancel(f.Context(), "orders.eu", backend.Selection{ID: "1"})
		require.NoError(t, err)
		require.Equal(t, 1, cancelled.Removed)
		_, err = audit.Resume(f.Context(), "orders.*")
		require.NoError(t, err)
		f.AwaitIdle()
		ezqtest.Handled[parcelPaid](f).InGroup("audit").Equal(parcelPaid{2})
		ezqtest.Handled[parcelPaid](f).InGroup("billing").Equal(parcelPaid{1}, parcelPaid{2}, parcelPaid{3})
	})
}

func TestGroup_NeedsAFlow(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	t.Cleanup(func() { _ = broker.Close() })
	_, err := ezqtest.Group(broker, "g").Subscribe(t.Context(), "t")
	require.ErrorContains(t, err, "not that of a flow")
	require.ErrorContains(t, ezqtest.AddRouter(broker, ezq.NewRouter(broker, nil)), "not that of a flow")
	var client backend.Backend
	build := func(c backend.Backend) *ezq.Router {
		client = c
		return accounts(c)
	}
	ezqtest.Run(t, build, func(*ezqtest.Flow) {
		require.ErrorContains(t, ezqtest.AddRouter(client, ezq.NewRouter(client, nil)), "the flow has begun")
	})
}

func TestFlow_GroupsOfOneTopicAreApart(t *testing.T) {
	t.Parallel()
	groups := map[string]backend.Backend{}
	build := func(client backend.Backend) *ezq.Router {
		routers := map[string]*ezq.Router{}
		for _, name := range []string{"one", "two"} {
			groups[name] = ezqtest.Group(client, name)
			routers[name] = ezq.NewRouter(groups[name], nil)
			ezq.Handle(routers[name], func(context.Context, parcelPaid) error { return nil }, ezq.Topic("parcels"))
		}
		require.NoError(t, ezqtest.AddRouter(client, routers["one"]))
		return routers["two"]
	}
	for _, paused := range []string{"one", "two"} {
		ezqtest.Run(t, build, func(f *ezqtest.Flow) {
			_, err := groups[paused].(backend.Pauser).Pause(f.Context(), "parcels", backend.Pause{By: "a test", Reason: "a test"})
			require.NoError(t, err)
			synctest.Wait()
			f.Publish(parcelPaid{1}, ezq.Topic("parcels"))
			f.AwaitIdle()
			ezqtest.Handled[parcelPaid](f).Times(1)
			ezqtest.Handled[parcelPaid](f).InGroup(paused).Times(0)
		})
	}
}
