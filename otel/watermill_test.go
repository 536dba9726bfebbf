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

// stock runs Watermill's own router on Watermill's own Pub/Sub until all is quiet.
func stock(l *lab, wire func(*message.Router, *gochannel.GoChannel), publish func(*gochannel.GoChannel)) {
	l.t.Helper()
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		l.t.Fatal(err)
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
		l.t.Error(err)
	}
}

func TestInWatermillsRouterWhatAHandlerReturnsIsPartOfTheTrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, trusting)
		stock(l, func(r *message.Router, p *gochannel.GoChannel) {
			r.AddMiddleware(l.Middleware)
			r.AddHandler("ship", "orders", p, "parcels", l.Publisher(p), func(*message.Message) ([]*message.Message, error) {
				return []*message.Message{message.NewMessage("2", nil)}, nil
			})
			r.AddConsumerHandler("load", "parcels", p, func(*message.Message) error { return nil })
		}, func(p *gochannel.GoChannel) {
			if err := l.Publisher(p).Publish("orders", message.NewMessage("1", nil)); err != nil {
				t.Error(err)
			}
		})
		load := l.span("process parcels", attribute.String("ezq.handler", "load"), attribute.String("messaging.message.id", "2"))
		onward := spanOf(l, load.Parent())
		ship := spanOf(l, onward.Parent())
		if onward.Name() != "publish parcels" || ship.Name() != "process orders" || spanOf(l, ship.Parent()).Name() != "publish orders" {
			t.Errorf("the trace is not publish, process, publish, process:\n%s", l.list())
		}
	})
}

func TestADeadLetterOfWatermillsPoisonQueueShows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		stock(l, func(r *message.Router, p *gochannel.GoChannel) {
			poison, err := middleware.PoisonQueue(l.Publisher(p), "dead")
			if err != nil {
				t.Fatal(err)
			}
			r.AddMiddleware(l.Middleware, poison)
			r.AddConsumerHandler("ship", "orders", p, func(*message.Message) error { return errors.New("no stock") })
		}, func(p *gochannel.GoChannel) {
			if err := p.Publish("orders", message.NewMessage("1", nil)); err != nil {
				t.Error(err)
			}
		})
		if span := l.span("process orders", outcome("dead_lettered")); span.Status().Description != "no stock" {
			t.Errorf("status %v", span.Status())
		}
	})
}
