package subscription

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Subscriptions are those of one subscriber, which end together.
// Create them with [NewSubscriptions].
type Subscriptions struct {
	closing chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // one at a time: starting a subscription, closing all
	closed bool
}

// NewSubscriptions returns a Subscriptions without any.
func NewSubscriptions() *Subscriptions {
	return &Subscriptions{closing: make(chan struct{})}
}

// Start starts a subscription to store. It ends with ctx, or as the
// [backend.Consumer] in ctx says, or with Close; the channel is closed when
// everything that was fetched is settled.
func (s *Subscriptions) Start(ctx context.Context, store Store, config Config) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, backend.ErrClosed
	}
	sub := newSubscription(ctx, store, config)
	s.running.Go(func() { sub.run(ctx, s.closing) })
	return sub.deliverer.out, nil
}

// Close ends all subscriptions and waits for them. Each of them may take as
// long as its DrainTimeout and the constants of this package allow. Close may
// be called more than once, also concurrently; every call waits.
func (s *Subscriptions) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
}
