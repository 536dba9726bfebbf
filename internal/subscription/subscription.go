package subscription

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

type subscription struct {
	store  Store
	holder Holder // nil if nothing is ever held
	config Config
	parent context.Context // of every message's context; it does not end
	out    chan *message.Message

	leases    *leases
	pending   *pending // outcomes but dead letters
	letters   *pending // dead letters
	outage    *outage
	watchers  sync.WaitGroup // one for each message handed over, or more
	watched   chan *lease    // to watchers that have nothing to do
	holds     sync.WaitGroup // one for each hold
	abandoned chan struct{}  // closed when nobody waits for acks any more
}

func newSubscription(ctx context.Context, store Store, config Config) *subscription {
	config.MaxInFlight = inFlight(config, backend.ConsumerFromContext(ctx).Concurrency)
	if config.Counters == nil {
		config.Counters = &Counters{}
	}
	holder, _ := store.(Holder)
	if holder == nil || config.SyncAck || config.MaxInFlight == 1 {
		config.HoldFor = 0 // what is held waits for others, and may come after them
	}
	return &subscription{
		store:     store,
		holder:    holder,
		config:    config,
		parent:    context.WithoutCancel(ctx),
		out:       make(chan *message.Message),
		leases:    newLeases(config),
		pending:   newPending(),
		letters:   newPending(),
		outage:    newOutage(config, backend.ConsumerFromContext(ctx).Health),
		watched:   make(chan *lease),
		abandoned: make(chan struct{}),
	}
}

// inFlight is how many messages may be handed over and not settled, to a consumer that
// handles so many at a time, or does not say (0).
func inFlight(config Config, concurrency int) int {
	most := cmp.Or(config.MaxInFlight, concurrency, defaultInFlight)
	if concurrency == 0 || concurrency <= most {
		return cmp.Or(concurrency, most)
	}
	config.Logger.Info("ezq: the consumer handles fewer messages at a time than it could, because of MaxInFlight",
		"topic", config.Topic, "max_in_flight", most, "concurrency", concurrency)
	return most
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
		case <-backend.ConsumerFromContext(ctx).Stopping:
		case <-ctx.Done():
		case <-closing:
		}
	}()
	keeping, release := context.WithCancel(context.Background())
	defer release()

	var keepers sync.WaitGroup
	keepers.Go(func() { s.renew(keeping) })
	keepers.Go(func() { s.flush(keeping, s.pending) })
	keepers.Go(func() { s.flush(keeping, s.letters) })
	fetched := make(chan struct{})
	go func() {
		defer close(fetched)
		defer stop()
		s.fetch(taking)
	}()

	s.handOut(taking, backend.ConsumerFromContext(ctx).Stopping)
	s.giveBack()
	s.drain(ctx, closing, fetched)
	close(s.abandoned)
	s.watchers.Wait()
	s.holds.Wait()
	release()
	keepers.Wait()
	s.flushAll()
	s.leases.abandon()
}

// giveBack releases what was claimed and not handed over.
func (s *subscription) giveBack() {
	for _, l := range s.leases.takeWaiting() {
		s.release(l)
	}
}

// drain waits until every message that was handed over is settled or lost. If
// that takes too long it ends the messages' contexts and waits a little more.
// Meanwhile the last claim comes in, which may take as long as the store likes.
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
			s.giveBack()
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
				"topic", s.config.Topic, "messages", s.leases.held(), "lease", s.config.Lease.String())
			if fetched != nil {
				<-fetched
				s.giveBack()
			}
			return
		}
		if cause != nil {
			s.leases.interrupt(cause)
			interrupt, closing, timeout, end = nil, nil, nil, time.After(grace)
		}
	}
}

func closedChannel() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
