package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
	ezqotel "github.com/ezq-go/ezq/otel"
)

const topic = "orders"

// Ordered is published by the shop.
type Ordered struct {
	ID    int
	Goods string
}

// Shipped is published by the handler of Ordered.
type Shipped struct{ ID int }

var errSoldOut = errors.New("sold out")

// trade publishes three orders: one is shipped, one at its second attempt, and one is
// given up. It returns when all that is settled.
func trade(ctx context.Context, client backend.Backend, telemetry *ezqotel.Telemetry) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	publisher := telemetry.Publisher(client)
	router := ezq.NewRouter(client, nil)
	router.Use(
		telemetry.Middleware, // first, so that it sees what the others decide
		middleware.Retry{Attempts: 2, Delay: 10 * time.Millisecond}.Middleware,
		middleware.Poison{}.Middleware,
	)
	if _, err := telemetry.ObserveRouter(router); err != nil {
		return err
	}
	ezq.Handle(router, func(ctx context.Context, e Ordered) error {
		switch {
		case e.Goods == "tulips":
			return ezq.Permanent(errSoldOut)
		case e.Goods == "roses" && ezq.MetaFromContext(ctx).Delivery == 1:
			return errSoldOut
		}
		return ezq.Publish(ctx, publisher, Shipped{e.ID}, ezq.Topic(topic))
	}, ezq.Topic(topic))
	var settled atomic.Int32
	settle := func() {
		if settled.Add(1) == 3 {
			stop()
		}
	}
	ezq.Handle(router, func(context.Context, Shipped) error {
		settle()
		return nil
	}, ezq.Topic(topic))
	// The dead letters are a topic like any other.
	ezq.Handle(router, func(context.Context, Ordered) error {
		settle()
		return nil
	}, ezq.Topic(topic+"_dead"))

	for i, goods := range []string{"pansies", "roses", "tulips"} {
		if err := ezq.Publish(ctx, publisher, Ordered{i + 1, goods}, ezq.Topic(topic)); err != nil {
			return err
		}
	}
	return router.Run(ctx)
}
