// Package demo is a small service that has something to show: a shop that sells tea, on the memory backend. Its events
// wait, are handled, fail, are retried and become dead letters, so that each page of a console is about something.
package demo

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
	"github.com/ezq-go/ezq/middleware"
)

// The topics of a [Shop].
const (
	Orders   = "orders"   // charged; the cards of some are refused
	Shipping = "shipping" // packed, one at a time, so that some wait for long
	Emails   = "emails"   // sent through a server that is often busy; reminders are delayed
	Loyalty  = "loyalty"  // paused for ten minutes
	Imports  = "imports"  // one that takes long, and others that wait for it
	Prices   = "prices"   // those of imported goods, which hold from another day on
	Reports  = "reports"  // published by schedules

	// Sent is a topic of groups alone: invoicing, which fails now and then, tracking, and archive, which takes it by a pattern.
	Sent = "parcels.sent"
)

// Topics returns the topics of a [Shop] whose consumers have no group.
func Topics() []string { return []string{Orders, Shipping, Emails, Loyalty, Imports, Prices, Reports} }

const (
	wave       = 60                     // orders that come at once: when the shop opens, and later
	pause      = 600 * time.Millisecond // between two other orders
	longImport = 30 * time.Minute
	reminder   = 5 * time.Minute
	keep       = 15 * time.Minute // dead letters
)

// Shop is the service. Within two seconds of its [Shop.Run] each of its topics has had events, and four have dead letters.
type Shop struct {
	broker *memory.Broker
	seed   uint64
}

// New returns a shop with a broker of its own. Which orders come, and which of them fail and why, is the same for
// the same seed.
func New(seed uint64) *Shop {
	logger := slog.New(slog.DiscardHandler) // failures are what it is for
	return &Shop{seed: seed, broker: memory.New(&memory.Config{Logger: logger, DeadLettersFor: keep})}
}

// Broker returns the broker of the shop: look at it, and steer it, while [Shop.Run] runs.
func (s *Shop) Broker() *memory.Broker { return s.broker }

// Run keeps the shop open until ctx ends, and then closes its broker. It is called once. It keeps a bounded
// number of events, however long it runs.
func (s *Shop) Run(ctx context.Context) error {
	return errors.Join(s.run(ctx), s.broker.Close())
}

func (s *Shop) run(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	timetable, err := s.timetable()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	runs := []func(context.Context) error{s.router().Run, timetable.Run, customers{s.broker, s.seed}.takeOrders}
	for _, group := range s.groups() {
		runs = append(runs, s.groupRouter(group).Run)
	}
	failed := make([]error, len(runs))
	var running sync.WaitGroup
	for i, run := range runs {
		running.Go(func() {
			defer stop()
			failed[i] = run(ctx)
		})
	}
	running.Wait()
	return errors.Join(failed...)
}

// open does what is done before the shop opens: topics and a pause are stored, and hold for consumers that start later.
func (s *Shop) open(ctx context.Context) error {
	for _, topic := range Topics() {
		if err := s.broker.SubscribeInitialize(topic); err != nil {
			return err
		}
	}
	for _, g := range s.groups() {
		if err := g.broker.SubscribeInitialize(g.topic); err != nil {
			return err
		}
	}
	_, err := s.broker.Pause(ctx, Loyalty, backend.Pause{By: "grace", Reason: "the partner moves to its new API", For: 10 * time.Minute})
	return err
}

func (s *Shop) router() *ezq.Router {
	router := ezq.NewRouter(s.broker, &ezq.Config{
		Concurrency: 4, IgnoreControl: true, DrainTimeout: time.Second, Logger: slog.New(slog.DiscardHandler),
		Topics: map[string]ezq.TopicConfig{Shipping: {Concurrency: 1}, Imports: {Concurrency: 1}},
	})
	router.Use(
		middleware.Retry{Attempts: 4, Delay: 150 * time.Millisecond, MaxDelay: time.Minute}.Middleware,
		middleware.Poison{}.Middleware,
	)
	c := clerk{publisher: s.broker, seed: s.seed}
	ezq.Handle(router, c.charge, ezq.Topic(Orders), ezq.Name("charge the card"))
	ezq.Handle(router, c.pack, ezq.Topic(Shipping), ezq.Name("pack the parcel"))
	ezq.Handle(router, c.send, ezq.Topic(Emails), ezq.Name("send the email"),
		ezq.Use(middleware.Retry{Attempts: 5, Delay: 2 * time.Second}.Middleware))
	ezq.Handle(router, c.remind, ezq.Topic(Emails), ezq.Name("remind of the cart"))
	ezq.Handle(router, c.award, ezq.Topic(Loyalty), ezq.Name("award the points"))
	ezq.Handle(router, c.readCatalogue, ezq.Topic(Imports), ezq.Name("read the catalogue"))
	ezq.Handle(router, c.setPrice, ezq.Topic(Prices), ezq.Name("set the price"))
	ezq.Handle(router, c.report, ezq.Topic(Reports), ezq.Name("write the report"))
	return router
}

// group is consumers of sent parcels that have a group.
type group struct {
	broker *memory.Broker
	topic  string
	handle func(context.Context, ParcelSent) error
}

func (s *Shop) groups() []group {
	c := clerk{publisher: s.broker, seed: s.seed}
	of := func(name string) *memory.Broker {
		return s.broker.Connect(&memory.Config{Group: name, Logger: slog.New(slog.DiscardHandler)})
	}
	return []group{{of("invoicing"), Sent, c.invoice}, {of("tracking"), Sent, c.track}, {of("archive"), "parcels.*", c.track}}
}

func (s *Shop) groupRouter(g group) *ezq.Router {
	router := ezq.NewRouter(g.broker, &ezq.Config{IgnoreControl: true, DrainTimeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	router.Use(middleware.Poison{}.Middleware)
	ezq.Handle(router, g.handle, ezq.Topic(g.topic), ezq.Name("note the parcel"))
	return router
}

func (s *Shop) timetable() (*schedule.Timetable, error) {
	timetable, err := schedule.New(s.broker, &schedule.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	nightly, err := schedule.Cron("30 2 * * *", time.UTC)
	if err != nil {
		return nil, err
	}
	monthly, err := schedule.Cron("0 6 1 * *", time.UTC)
	if err != nil {
		return nil, err
	}
	return timetable, errors.Join(
		timetable.Add("stock levels", schedule.Every(2*time.Second), ReportWanted{Report: "stock levels"}, ezq.Topic(Reports)),
		timetable.Add("closed carts", nightly, ReportWanted{Report: "closed carts"}, ezq.Topic(Reports)),
		timetable.Add("invoices", monthly, ReportWanted{Report: "invoices"}, ezq.Topic(Reports)))
}
