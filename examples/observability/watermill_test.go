package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/metrics"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// on runs a test on both backends. Its promise is the name of what it runs, without the backend.
func on(t *testing.T, promise string, test func(t *testing.T, client backend.Backend)) {
	t.Helper()
	t.Run(promise+" in memory", func(t *testing.T) {
		t.Parallel()
		test(t, memory.New(nil))
	})
	t.Run(promise+" on PGMQ", func(t *testing.T) {
		t.Parallel()
		client, err := pgmq.Open(t.Context(), pgtest.Database(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		test(t, client)
	})
}

// counts returns how many values each histogram and counter of the registry has.
func counts(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			found[family.GetName()] += m.GetHistogram().GetSampleCount() + uint64(m.GetCounter().GetValue())
		}
	}
	return found
}

func expect(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	got := counts(t, registry)
	for _, name := range []string{"publish_time_seconds", "subscriber_messages_received_total", "handler_execution_time_seconds"} {
		if got[name] != 1 {
			t.Errorf("%s counts %d, not 1: %v", name, got[name], got)
		}
	}
}

func TestWatermillMetrics_WorkInOurRouter(t *testing.T) {
	t.Parallel()
	on(t, "Watermill's metrics count in ezq's router", func(t *testing.T, client backend.Backend) {
		defer client.Close()
		registry := prometheus.NewRegistry()
		builder := metrics.NewPrometheusMetricsBuilder(registry, "", "")
		publisher, err := builder.DecoratePublisher(client)
		if err != nil {
			t.Fatal(err)
		}
		subscriber, err := builder.DecorateSubscriber(client)
		if err != nil {
			t.Fatal(err)
		}
		router := ezq.NewRouter(subscriber, nil)
		router.Use(builder.NewRouterMiddleware().Middleware)
		ctx, stop := context.WithCancel(t.Context())
		ezq.Handle(router, func(context.Context, Shipped) error {
			stop()
			return nil
		})
		if err := ezq.Publish(ctx, publisher, Shipped{1}); err != nil {
			t.Fatal(err)
		}
		if err := router.Run(ctx); err != nil {
			t.Fatal(err)
		}
		expect(t, registry)
	})
}

func TestWatermillMetrics_WorkOnOurBackends(t *testing.T) {
	t.Parallel()
	on(t, "Watermill's router counts", func(t *testing.T, client backend.Backend) {
		registry := prometheus.NewRegistry()
		router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
		if err != nil {
			t.Fatal(err)
		}
		metrics.NewPrometheusMetricsBuilder(registry, "", "").AddPrometheusRouterMetrics(router)
		ctx, stop := context.WithCancel(t.Context())
		router.AddHandler("ship", "orders", client, "parcels", client, func(*message.Message) ([]*message.Message, error) {
			return []*message.Message{message.NewMessage("2", []byte("{}"))}, nil
		})
		done := make(chan error, 1)
		go func() { done <- router.Run(ctx) }()
		<-router.Running()
		if err := client.Publish("orders", message.NewMessage("1", []byte("{}"))); err != nil {
			t.Fatal(err)
		}
		pgtest.Eventually(t, 30*time.Second, "the message is handled and its answer published", func() bool {
			return counts(t, registry)["publish_time_seconds"] == 1
		})
		stop()
		if err := errors.Join(<-done, client.Close()); err != nil {
			t.Fatal(err)
		}
		expect(t, registry)
	})
}
