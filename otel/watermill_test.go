package ezqotel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"go.opentelemetry.io/otel/attribute"
)

// runWatermill runs Watermill's own router on Watermill's own Pub/Sub until all is quiet.
func runWatermill(h *harness, wire func(*message.Router, *gochannel.GoChannel), publish func(*gochannel.GoChannel)) {
	h.t.Helper()
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		h.t.Fatal(err)
	}
	wire(router, pubsub)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()
	<-router.Running()
	publish(pubsub)
	synctest.Wait()
	stop()
	if err := errors.Join(<-done, pubsub.Close()); err != nil {
		h.t.Error(err)
	}
}

func TestWatermillRouter_TracesMessagesHandlerReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, continueTraces)
		runWatermill(h, func(r *message.Router, p *gochannel.GoChannel) {
			r.AddMiddleware(h.Middleware)
			r.AddHandler("ship", "orders", p, "parcels", h.Publisher(p), func(*message.Message) ([]*message.Message, error) {
				return []*message.Message{message.NewMessage("2", nil)}, nil
			})
			r.AddConsumerHandler("load", "parcels", p, func(*message.Message) error { return nil })
		}, func(p *gochannel.GoChannel) {
			if err := h.Publisher(p).Publish("orders", message.NewMessage("1", nil)); err != nil {
				t.Error(err)
			}
		})
		load := h.span("process parcels", attribute.String("ezq.handler", "load"), attribute.String("messaging.message.id", "2"))
		onward := spanOf(h, load.Parent())
		ship := spanOf(h, onward.Parent())
		if onward.Name() != "publish parcels" || ship.Name() != "process orders" || spanOf(h, ship.Parent()).Name() != "publish orders" {
			t.Errorf("the trace is not publish, process, publish, process:\n%s", h.list())
		}
	})
}

func TestWatermillRouter_ShowsDeadLetterOfPoisonQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		runWatermill(h, func(r *message.Router, p *gochannel.GoChannel) {
			poison, err := middleware.PoisonQueue(h.Publisher(p), "dead")
			if err != nil {
				t.Fatal(err)
			}
			r.AddMiddleware(h.Middleware, poison)
			r.AddConsumerHandler("ship", "orders", p, func(*message.Message) error { return errors.New("no stock") })
		}, func(p *gochannel.GoChannel) {
			if err := p.Publish("orders", message.NewMessage("1", nil)); err != nil {
				t.Error(err)
			}
		})
		if span := h.span("process orders", outcome("dead_lettered")); span.Status().Description != "no stock" {
			t.Errorf("status %v", span.Status())
		}
	})
}
