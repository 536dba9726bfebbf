// Steer goes through what an operator does to a service that runs: it pauses a topic, looks for an event by a
// field of its body, cancels one, lets a circuit breaker wait for a bank that is down, repairs a dead letter
// and sends it back, and asks what became of an order.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// OrderPlaced says that an order is to be charged.
type OrderPlaced struct {
	Order Order `json:"order"`
}

// Order is an order with the card that pays it.
type Order struct {
	ID   int    `json:"id"`
	Card string `json:"card"`
}

// Reserved says that the goods of an order are reserved for an hour.
type Reserved struct{ Order int }

const (
	orders  = "orders"
	letters = orders + backend.DeadLetterSuffix
	stock   = "stock"
)

// steerable is a backend that an operator can steer.
type steerable interface {
	backend.Backend
	message.SubscribeInitializer
	backend.Finder
	backend.Canceller
	backend.Pauser
	backend.DeadLetterStore
}

// service charges orders. Its operator uses the same client here, and would use another one elsewhere.
type service struct {
	client   steerable
	run      string            // ends the IDs of this run of the example
	names    map[string]string // of events, by the IDs that ezq has given them
	bankIsUp atomic.Bool
	charged  chan Order
}

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	client, err := open.Backend(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()
	steered, ok := client.(steerable)
	if !ok {
		return errors.New("this backend cannot be steered")
	}
	s := &service{client: steered, run: "-" + rand.Text(), names: map[string]string{}, charged: make(chan Order, 1)}
	for _, topic := range []string{orders, letters, stock} {
		if err := steered.SubscribeInitialize(topic); err != nil {
			return err
		}
	}
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.router().Run(ctx) }()
	err = s.steer(ctx)
	stop()
	return errors.Join(err, <-stopped)
}

// router returns the service.
func (s *service) router() *ezq.Router {
	router := ezq.NewRouter(s.client, &ezq.Config{Concurrency: 1, Logger: slog.New(slog.DiscardHandler)})
	router.Use(
		middleware.Retry{Delay: 20 * time.Millisecond}.Middleware,
		middleware.Poison{}.Middleware,
		middleware.CircuitBreaker{Pauser: s.client, Failures: 2, Pause: time.Minute}.Middleware,
	)
	ezq.Handle(router, s.charge, ezq.Topic(orders), ezq.Name("charge"))
	return router
}

func (s *service) charge(ctx context.Context, e OrderPlaced) error {
	reserved := s.id(fmt.Sprint("reserved-", e.Order.ID)) // under an ID, since this may be the second attempt
	if err := ezq.Publish(ctx, s.client, Reserved{Order: e.Order.ID}, ezq.Topic(stock), ezq.ID(reserved), ezq.Delay(time.Hour)); err != nil {
		return err
	}
	switch {
	case e.Order.Card == "":
		return ezq.Permanent(errors.New("there is no card"))
	case !s.bankIsUp.Load():
		return errors.New("the bank does not answer")
	}
	s.charged <- e.Order
	return nil
}

func (s *service) id(name string) string { return name + s.run }

// name returns the name of an ID, or of all IDs in a text.
func (s *service) name(text string) string {
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id, name)
	}
	return strings.ReplaceAll(text, s.run, "")
}

// prepare does what is done before the service starts: a pause is stored, and holds for consumers that start later.
func (s *service) prepare(ctx context.Context) error {
	paused, err := s.client.Pause(ctx, orders, backend.Pause{By: "ada", Reason: "the bank is moving", For: time.Hour})
	if err != nil {
		return err
	}
	fmt.Printf("paused by %s: %s\n", paused.By, paused.Reason)
	for _, event := range []struct {
		name    string
		order   Order
		options []ezq.PublishOption
	}{
		{"order-7", Order{7, "gold"}, []ezq.PublishOption{ezq.Unique("order-7")}},
		{"order-7-corrected", Order{7, "silver"}, []ezq.PublishOption{ezq.Replace("order-7")}},
		{"order-8", Order{8, "gold"}, []ezq.PublishOption{ezq.ID(s.id("order-8"))}},
		{"order-8", Order{8, "gold"}, []ezq.PublishOption{ezq.ID(s.id("order-8"))}},
		{"order-9", Order{9, ""}, []ezq.PublishOption{ezq.ID(s.id("order-9"))}},
		{"order-10", Order{10, "gold"}, []ezq.PublishOption{ezq.ID(s.id("order-10")), ezq.Expires(time.Millisecond)}},
	} {
		if err := s.publish(ctx, event.name, event.order, event.options); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) publish(ctx context.Context, name string, order Order, options []ezq.PublishOption) error {
	var result ezq.PublishResult
	if err := ezq.Publish(ctx, s.client, OrderPlaced{order}, append(options, ezq.Topic(orders), ezq.ResultTo(&result))...); err != nil {
		return err
	}
	s.names[result.ID] = name
	switch {
	case result.Replaced != "":
		fmt.Println(name, "replaces", s.name(result.Replaced))
	case result.Stored:
		fmt.Println(name, "is stored")
	default:
		fmt.Println(name, "was stored before")
	}
	return nil
}

// steer is what the operator does.
func (s *service) steer(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.cancelOrder, s.resume, s.waitForBreaker, s.repairBank, s.listDeadLetters, s.repairDeadLetter, s.tidyUp} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cancelOrder finds an event by a field of its body, and cancels it.
func (s *service) cancelOrder(ctx context.Context) error {
	found, err := s.client.Find(ctx, orders, backend.Selection{Field: "order.id", Equals: 8})
	if err != nil {
		return err
	}
	for _, f := range found {
		cancelled, err := s.client.Cancel(ctx, orders, backend.Selection{ID: f.ID})
		if err != nil {
			return err
		}
		fmt.Println(s.name(f.ID), "was", f.State, "and is cancelled:", cancelled.Removed)
	}
	return nil
}

func (s *service) resume(ctx context.Context) error {
	resumed, err := s.client.Resume(ctx, orders)
	fmt.Println("resumed:", resumed)
	return err
}

// waitForBreaker waits until the circuit breaker has paused the topic, since the bank does not answer.
func (s *service) waitForBreaker(ctx context.Context) error {
	return await(ctx, func() (bool, error) {
		pauses, err := s.client.Pauses(ctx, orders)
		for _, p := range pauses {
			who, _, _ := strings.Cut(p.By, " at ") // the host
			fmt.Printf("paused by %s: %s\n", who, p.Reason)
		}
		return len(pauses) > 0, err
	})
}

// repairBank repairs the bank, and does not wait until the pause is over.
func (s *service) repairBank(ctx context.Context) error {
	s.bankIsUp.Store(true)
	if err := s.resume(ctx); err != nil {
		return err
	}
	return s.awaitCharge(ctx)
}

func (s *service) awaitCharge(ctx context.Context) error {
	select {
	case order := <-s.charged:
		fmt.Printf("order %d was charged to the %s card\n", order.ID, order.Card)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listDeadLetters waits for two dead letters: an order without a card, and one that has expired.
func (s *service) listDeadLetters(ctx context.Context) error {
	for _, name := range []string{"order-9", "order-10"} {
		err := await(ctx, func() (bool, error) {
			found, err := s.client.DeadLetters(ctx, letters, backend.DeadLetterSelection{ID: s.id(name)})
			for _, d := range found {
				reason, _, _ := strings.Cut(d.Reason, " at ") // the time
				fmt.Printf("dead letter %s: %s\n", s.name(d.ID), reason)
			}
			return len(found) > 0, err
		})
		if err != nil {
			return err
		}
	}
	return s.printTree(ctx, "order-9")
}

// repairDeadLetter gives the order a card, and sends it back.
func (s *service) repairDeadLetter(ctx context.Context) error {
	nine := backend.DeadLetterSelection{Field: "order.id", Equals: 9}
	found, err := s.client.DeadLetters(ctx, letters, nine)
	if err != nil || len(found) != 1 {
		return fmt.Errorf("%d dead letters instead of one: %w", len(found), err)
	}
	edit := backend.DeadLetterEdit{
		Row: found[0].Row, Version: found[0].Version(), By: "ada",
		Payload: []byte(`{"_type": "OrderPlaced", "order": {"id": 9, "card": "gold"}}`),
	}
	if err := s.client.EditDeadLetter(ctx, letters, edit); err != nil {
		return err
	}
	redriven, err := s.client.Redrive(ctx, letters, nine)
	if err != nil {
		return err
	}
	fmt.Println("edited and redriven:", redriven.Moved)
	return s.awaitCharge(ctx)
}

// tidyUp deletes the dead letter that is not worth anything, and tells what is left of an order.
func (s *service) tidyUp(ctx context.Context) error {
	purged, err := s.client.PurgeDeadLetters(ctx, letters, backend.DeadLetterSelection{ID: s.id("order-10")})
	if err != nil {
		return err
	}
	fmt.Println("purged:", purged.Removed)
	return s.printTree(ctx, "reserved-7")
}

// printTree prints what has followed from an event, and where each of it is.
func (s *service) printTree(ctx context.Context, name string) error {
	tree, err := ezq.FindTree(ctx, s.client, s.id(name), orders, stock)
	fmt.Print(s.name(tree.String()))
	return err
}

// await asks again and again until something is so.
func await(ctx context.Context, is func() (bool, error)) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if done, err := is(); done || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
