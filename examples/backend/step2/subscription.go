package step2

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

type subscription struct {
	broker   *Broker
	config   Config
	topic    string
	ctx      context.Context
	out      chan *message.Message
	settling sync.WaitGroup

	mu       sync.Mutex
	inFlight int
	freed    chan struct{} // is sent to when a message is in flight no longer
}

func (s *subscription) run() {
	defer close(s.out)
	defer s.settling.Wait()
	for s.awaitRoom() {
		e := s.next()
		if e == nil {
			return
		}
		s.handOver(e)
	}
}

// awaitRoom waits until one more message may be in flight. It is false when the
// subscription ends.
func (s *subscription) awaitRoom() bool {
	for s.ctx.Err() == nil {
		if s.hasRoom() {
			return true
		}
		select {
		case <-s.freed:
		case <-s.ctx.Done():
		}
	}
	return false
}

func (s *subscription) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight < s.config.InFlight
}

func (s *subscription) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight += n
	select {
	case s.freed <- struct{}{}:
	default: // the subscription is told already
	}
}

// next waits for an entry. It is nil when the subscription ends.
func (s *subscription) next() *entry {
	for s.ctx.Err() == nil {
		e, changed := s.broker.take(s.topic)
		if e != nil {
			return e
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
		}
	}
	return nil
}

// handOver delivers an entry, and does not wait for what becomes of it.
func (s *subscription) handOver(e *entry) {
	ctx, end := context.WithCancel(s.ctx)
	msg := message.NewMessage(e.id, slices.Clone(e.payload))
	msg.Metadata = maps.Clone(e.metadata)
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	msg.SetContext(ctx)
	select {
	case s.out <- msg:
		s.count(+1)
		s.settling.Go(func() {
			defer s.count(-1)
			defer end() // the context of a message ends with it
			s.settle(ctx, e, msg)
		})
	case <-s.ctx.Done():
		end()
		s.broker.release(s.topic, e)
	}
}

// pause is how long a nacked message waits: one that always fails keeps no processor busy.
const pause = 10 * time.Millisecond

// settle waits for what becomes of a message. ctx is its context; a consumer may give it
// another one.
func (s *subscription) settle(ctx context.Context, e *entry, msg *message.Message) {
	select {
	case <-msg.Acked():
		return
	case <-msg.Nacked():
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	case <-ctx.Done(): // and not the subscription's, which ends a little earlier
		select {
		case <-msg.Acked(): // a select with several choices takes any
			return
		default:
		}
	}
	s.broker.release(s.topic, e)
}
