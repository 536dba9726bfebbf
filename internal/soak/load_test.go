package soak_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/ledger"
)

// The topics.
const (
	plain       = "plain"   // events that are acked when they are handled
	inTx        = "in_tx"   // events whose handlers have an effect in the database, in the transaction that acks them
	shaken      = "shaken"  // events that the storm locks, hides and uncovers
	failing     = "failing" // events of which some become dead letters
	dropped     = "dropped" // events that are lost with their queue now and then
	outbox      = "outbox"  // such events that are published in transactions of the application
	purged      = "purged"  // events that others remove now and then, and of which some fail at first
	deadLetters = failing + "_dead"
)

// load is so many publishers, each of which publishes so often.
type load struct {
	publishers int
	every      time.Duration
	publish    func(s *soak, topic, id string) error
}

func loads() map[string]load {
	return map[string]load{
		plain:   {publishers: 6, every: 8 * time.Millisecond, publish: near},
		inTx:    {publishers: 2, every: 8 * time.Millisecond, publish: near},
		shaken:  {publishers: 2, every: 20 * time.Millisecond, publish: far},
		failing: {publishers: 1, every: 20 * time.Millisecond, publish: near},
		dropped: {publishers: 1, every: 20 * time.Millisecond, publish: someDelayed},
		outbox:  {publishers: 1, every: 20 * time.Millisecond, publish: inTransaction},
		purged:  {publishers: 1, every: 20 * time.Millisecond, publish: near},
	}
}

func near(s *soak, topic, id string) error {
	return ezq.Publish(context.Background(), s.client, happened{ID: id}, ezq.Topic(topic))
}

// far publishes through the network that is slow.
func far(s *soak, topic, id string) error {
	return ezq.Publish(context.Background(), s.farClient, happened{ID: id}, ezq.Topic(topic))
}

// someDelayed publishes some of the events for later.
func someDelayed(s *soak, topic, id string) error {
	if !oneIn(10, id) {
		return near(s, topic, id)
	}
	s.ledger(topic).Delayed(id, time.Now().Add(delay))
	return ezq.Publish(context.Background(), s.client, happened{ID: id}, ezq.Topic(topic), ezq.Delay(delay))
}

// delay is how long an event waits that is published for later.
const delay = 1500 * time.Millisecond

// inTransaction publishes as an outbox does, and never otherwise.
func inTransaction(s *soak, topic, id string) error {
	ctx := context.Background()
	tx, err := s.application.Begin(ctx)
	if err != nil {
		return errors.Join(pgmq.ErrRejected, err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if err := ezq.Publish(ctx, s.outbox.WithTx(tx), happened{ID: id}, ezq.Topic(topic)); err != nil {
		return errors.Join(pgmq.ErrRejected, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return errors.Join(pgmq.ErrUnknownOutcome, err)
	}
	return nil
}

// publish publishes to all topics until stop is called, which waits until every publish has ended.
func (s *soak) publish(name string) (stop func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for topic, load := range loads() {
		for p := range load.publishers {
			running.Go(func() {
				clock := time.NewTicker(load.every)
				defer clock.Stop()
				for n := 1; ctx.Err() == nil; n++ {
					id := fmt.Sprintf("%s-%d-%d", name, p, n)
					s.ledger(topic).Published(id, ledger.Unknown)
					s.ledger(topic).Published(id, s.outcome(load.publish(s, topic, id)))
					<-clock.C
				}
			})
		}
	}
	return func() { cancel(); running.Wait() }
}

// oneIn reports whether an event is one of so many of its publisher.
func oneIn(of int, id string) bool {
	n, err := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	return err == nil && n%of == 0
}

func (s *soak) outcome(err error) ledger.Outcome {
	switch {
	case err == nil:
		return ledger.Stored
	case errors.Is(err, pgmq.ErrRejected):
		return ledger.Rejected
	default:
		if !errors.Is(err, pgmq.ErrUnknownOutcome) {
			s.Errorf("a publish fails and does not say what became of its event: %v", err)
		}
		return ledger.Unknown
	}
}
