package subscription

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

type subscription struct {
	store  Store
	config Config
	parent context.Context // of every message's context; it does not end
	out    chan *message.Message

	leases    *leases
	pending   *pending
	watchers  sync.WaitGroup // one for each message handed over
	abandoned chan struct{}  // closed when nobody waits for acks any more
}

func newSubscription(ctx context.Context, store Store, config Config) *subscription {
	if n := backend.ConsumerFrom(ctx).Concurrency; n > 0 {
		config.MaxInFlight = min(config.MaxInFlight, n)
	}
	return &subscription{
		store:     store,
		config:    config,
		parent:    context.WithoutCancel(ctx),
		out:       make(chan *message.Message),
		leases:    newLeases(config),
		pending:   newPending(),
		abandoned: make(chan struct{}),
	}
}

// run is the whole life of a subscription. It returns when everything that was
// claimed is settled or abandoned, the outcomes are stored, and the channel is
// closed.
func (s *subscription) run(ctx context.Context, closing <-chan struct{}) {
	defer close(s.out)

	taking, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		defer stop()
		select {
		case <-backend.ConsumerFrom(ctx).Stopping:
		case <-ctx.Done():
		case <-closing:
		}
	}()
	keeping, release := context.WithCancel(context.Background())
	defer release()

	var takers, keepers sync.WaitGroup
	keepers.Go(func() { s.renew(keeping) })
	keepers.Go(func() { s.flush(keeping) })
	takers.Go(func() { s.fetch(taking) })
	takers.Go(func() { s.handOut(taking) })

	takers.Wait()
	s.giveBack()
	s.drain(ctx, closing)
	close(s.abandoned)
	s.watchers.Wait()
	release()
	keepers.Wait()
	s.flushAll()
}

// giveBack releases what was claimed and not handed over.
func (s *subscription) giveBack() {
	for _, l := range s.leases.takeWaiting() {
		s.release(l)
	}
}

// drain waits until every message that was handed over is settled or lost. If
// that takes too long it ends the messages' contexts and waits a little more.
//
// A message that is still not settled then keeps its lease until that runs out:
// its handler may be running, and to release it would run it twice at once.
func (s *subscription) drain(ctx context.Context, closing <-chan struct{}) {
	settled := s.leases.empty()
	var interrupt <-chan struct{}
	if backend.ConsumerFrom(ctx).Stopping != nil {
		interrupt = ctx.Done() // the consumer says how long it waits,
	} else {
		closing = closedChannel() // or else DrainTimeout does
	}

	var timeout <-chan time.Time
	for cause := error(nil); cause == nil; {
		select {
		case <-settled:
			return
		case <-closing:
			closing = nil
			timer := time.NewTimer(s.config.DrainTimeout)
			defer timer.Stop()
			timeout = timer.C
			continue
		case <-interrupt:
			cause = context.Cause(ctx)
		case <-timeout:
			cause = backend.ErrInterrupted
		}
		s.leases.interrupt(cause)
	}

	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
		s.config.Logger.Warn("ezq: handlers did not return; their messages come back when the leases run out",
			"topic", s.config.Topic, "messages", s.leases.held(), "lease", s.config.Lease)
	}
}

func closedChannel() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
