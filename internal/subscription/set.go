package subscription

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Set is the subscriptions of one subscriber, which end together.
// Create it with [NewSet].
type Set struct {
	closing chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // one at a time: starting a subscription, closing the set
	closed bool
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{closing: make(chan struct{})}
}

// Start starts a subscription to store. It ends with ctx, or as the
// [backend.Consumer] in ctx says, or with the set; the channel is closed when
// everything that was claimed is settled.
func (s *Set) Start(ctx context.Context, store Store, config Config) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, backend.ErrClosed
	}
	sub := newSubscription(ctx, store, config)
	s.running.Go(func() { sub.run(ctx, s.closing) })
	return sub.out, nil
}

// Close ends all subscriptions and waits for them. Each of them may take as
// long as its DrainTimeout and the constants of this package allow. Close may
// be called more than once, also concurrently; every call waits.
func (s *Set) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.running.Wait()
}
