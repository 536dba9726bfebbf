package ezqotel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func TestMetrics_CountMessagesAsTheyPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		inside := 0.0
		h.run(broker, func(r *ezq.Router) {
			if _, err := h.ObserveRouter(r); err != nil {
				t.Fatal(err)
			}
			ezq.Handle(r, func(context.Context, Ordered) error {
				time.Sleep(2 * time.Second)
				return nil
			})
		}, func(ctx context.Context, p message.Publisher) {
			publish(t, ctx, p, Ordered{1}, ezq.Delay(time.Hour))
			publish(t, ctx, p, Ordered{2})
			time.Sleep(time.Second)
			inside = h.value("ezq.process.active")
			if h.value("ezq.router.in_flight") != 1 || h.value("ezq.router.ready") != 1 || h.value("ezq.router.paused") != 0 {
				t.Error("what is observed of the router is wrong")
			}
			time.Sleep(2 * time.Hour)
		})
		if inside != 1 {
			t.Errorf("%v messages were being handled, not 1", inside)
		}
		topic := attribute.String("messaging.destination.name", "ezq")
		for name, want := range map[string]float64{
			"messaging.client.sent.messages":      2,
			"messaging.client.operation.duration": 2,
			"messaging.client.consumed.messages":  2,
			"messaging.process.duration":          2,
			"ezq.process.active":                  0,
			"ezq.message.latency":                 2,
			"ezq.router.ready":                    0,
		} {
			conditions := []attribute.KeyValue{topic}
			if name == "ezq.router.ready" {
				conditions = nil
			}
			if got := h.value(name, conditions...); got != want {
				t.Errorf("%s is %v, not %v", name, got, want)
			}
		}
		if got, want := h.sum("ezq.message.latency"), (2*time.Second + time.Hour + 2*time.Second).Seconds(); got != want {
			t.Errorf("the messages took %v s together, not %v s", got, want)
		}
	})
}

// sum returns the sum of all values of a histogram.
func (h *harness) sum(name string) (total float64) {
	h.t.Helper()
	var all metricdata.ResourceMetrics
	if err := h.reader.Collect(context.Background(), &all); err != nil {
		h.t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				for _, p := range data.DataPoints {
					total += p.Sum
				}
			}
		}
	}
	return total
}

type brokenPublisher struct{}

func (brokenPublisher) Publish(string, ...*message.Message) error { return errors.New("no route") }
func (brokenPublisher) Close() error                              { return nil }

func TestPublisher_RecordsFailedPublish(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if err := h.Publisher(brokenPublisher{}).Publish("orders", message.NewMessage("1", nil)); err == nil || err.Error() != "no route" {
		t.Errorf("the error is %v", err)
	}
	kind := attribute.String("error.type", "*errors.errorString")
	if span := h.span("publish orders", kind); span.Status().Description != "no route" {
		t.Errorf("status %v", span.Status())
	}
	if h.value("messaging.client.sent.messages", kind) != 1 {
		t.Error("it was not counted with its error")
	}
}

func TestPublisher_CountsNoTickOfAnotherProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		for _, at := range []time.Time{time.Now(), time.Now().Add(time.Hour), time.Now().Add(time.Minute)} {
			if at.Before(time.Now().Add(time.Hour)) {
				time.Sleep(time.Until(at))
			}
			tick := &backend.ScheduleTick{Schedule: "hourly", At: at}
			publish(t, backend.WithScheduleTick(t.Context(), tick), h.Publisher(broker), Ordered{1})
		}
		h.span("publish ezq", attribute.String("ezq.tick", "taken"))
		h.span("publish ezq", attribute.String("ezq.tick", "early"))
		if n := h.value("messaging.client.sent.messages"); n != 1 {
			t.Errorf("%v messages were sent, not 1", n)
		}
	})
}

func TestPublisher_CountsNoMessageThatExisted(t *testing.T) {
	t.Parallel()
	h, broker := newHarness(t), newBroker(t, memory.Config{})
	publisher := h.Publisher(broker)
	for range 2 {
		if err := ezq.PublishBatch(t.Context(), publisher, []Ordered{{1}, {2}}, ezq.IDs("one", "two")); err != nil {
			t.Fatal(err)
		}
	}
	h.span("publish ezq", attribute.Int("ezq.existed", 2))
	if n := h.value("messaging.client.sent.messages"); n != 2 {
		t.Errorf("%v messages were sent, not 2", n)
	}
}
