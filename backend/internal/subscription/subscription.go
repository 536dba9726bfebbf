package subscription

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// subscription is the loops around one list of leases.
type subscription struct {
	config    Config
	leases    *leases
	fetcher   *fetcher
	deliverer *deliverer
	extender  *extender
	settler   *settler
	pauses    *pauseWatcher
	removals  *removalWatcher
}

func newSubscription(ctx context.Context, store Store, config Config) *subscription {
	consumer := backend.ConsumerFromContext(ctx)
	config.MaxInFlight = maxInFlight(config, consumer.Concurrency)
	if config.Counters == nil {
		config.Counters = &Counters{}
	}
	locker, _ := store.(Locker)
	if locker == nil || config.SyncAck || config.MaxInFlight == 1 {
		config.LockFor = 0 // a locked message waits for others, and may come after them
	}
	pausable, _ := store.(Pausable)
	removable, _ := store.(Removable)
	leases := newLeases(context.WithoutCancel(ctx), config)
	settler := newSettler(config, store, leases)
	return &subscription{
		config: config,
		leases: leases,
		fetcher: &fetcher{
			config: config, store: store, leases: leases, settler: settler,
			locker: &batchLocker{config: config, locker: locker, leases: leases, batches: lockedBatches{leases}, settler: settler},
			outage: newOutage(config, consumer.Health),
		},
		deliverer: newDeliverer(config, leases, settler),
		extender:  &extender{config: config, store: store, leases: leases, settler: settler},
		settler:   settler,
		pauses:    &pauseWatcher{config: config, pausable: pausable, leases: leases, settler: settler},
		removals:  &removalWatcher{store: removable, leases: leases},
	}
}

// maxInFlight is how many messages may be handed over and not settled, to a consumer that
// handles concurrency messages at a time, or does not say (0).
func maxInFlight(config Config, concurrency int) int {
	most := cmp.Or(config.MaxInFlight, concurrency, defaultInFlight)
	if concurrency == 0 || concurrency <= most {
		return cmp.Or(concurrency, most)
	}
	config.Logger.Info("ezq: the consumer handles fewer messages at a time than it could, because of MaxInFlight",
		"topic", config.Topic, "max_in_flight", most, "concurrency", concurrency)
	return most
}

// run is the whole life of a subscription. It returns when everything that was
// fetched is settled or abandoned, the outcomes are stored, and the channel is
// closed.
func (s *subscription) run(ctx context.Context, closing <-chan struct{}) {
	defer close(s.deliverer.out)
	stopping := backend.ConsumerFromContext(ctx).Stopping

	fetching, stopFetching := context.WithCancel(context.Background())
	defer stopFetching()
	go func() {
		defer stopFetching()
		select {
		case <-stopping:
		case <-ctx.Done():
		case <-closing:
		}
	}()
	settling, stopSettling := context.WithCancel(context.Background())
	defer stopSettling()

	var loops sync.WaitGroup
	if s.pauses.pausable != nil {
		changed := s.pauses.update() // before the first fetch
		loops.Go(func() { s.pauses.run(settling, changed) })
	}
	if s.removals.store != nil {
		removed := s.removals.store.Removed() // before the first fetch
		loops.Go(func() { s.removals.run(settling, removed) })
	}
	loops.Go(func() { s.extender.run(settling) })
	loops.Go(func() { s.settler.run(settling, s.settler.settlements) })
	loops.Go(func() { s.settler.run(settling, s.settler.deadLetters) })
	fetched := make(chan struct{})
	go func() {
		defer close(fetched)
		defer stopFetching()
		s.fetcher.run(fetching)
	}()

	s.deliverer.run(fetching, stopping)
	s.settler.releaseWaiting()
	s.drain(ctx, closing, fetched)
	s.deliverer.abandon()
	s.fetcher.locker.running.Wait()
	stopSettling()
	loops.Wait()
	s.settler.flush()
	s.leases.clear()
}

// drain waits until every message that was handed over is settled or lost. If
// that takes too long it ends the messages' contexts and waits a little more.
// Meanwhile the last fetch comes in, which may take as long as the store likes.
//
// A message that is still not settled then keeps its lease until that runs out:
// its handler may be running, and to release it would run it twice at once.
func (s *subscription) drain(ctx context.Context, closing, fetched <-chan struct{}) {
	var interrupt <-chan struct{}
	if backend.ConsumerFromContext(ctx).Stopping != nil {
		interrupt = ctx.Done() // the consumer says how long it waits,
	} else {
		closing = closedChannel() // or else DrainTimeout does
	}

	var settled <-chan struct{}
	var timeout, end <-chan time.Time
	for {
		var cause error
		select {
		case <-fetched:
			fetched = nil
			s.settler.releaseWaiting()
			settled = s.leases.empty()
		case <-settled:
			return
		case <-closing:
			closing, timeout = nil, time.After(s.config.DrainTimeout)
		case <-interrupt:
			cause = context.Cause(ctx)
		case <-timeout:
			cause = backend.ErrInterrupted
		case <-end:
			s.config.Logger.Warn("ezq: messages were not settled in time; they come back when their leases run out",
				"topic", s.config.Topic, "messages", s.leases.len(), "lease", s.config.Lease.String())
			if fetched != nil {
				<-fetched
				s.settler.releaseWaiting()
			}
			return
		}
		if cause != nil {
			s.leases.interrupt(cause)
			interrupt, closing, timeout, end = nil, nil, nil, time.After(grace)
		}
	}
}
