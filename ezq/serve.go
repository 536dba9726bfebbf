package ezq

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// server delivers the events of one topic until the run stops.
type server struct {
	*run
	*topic

	// handle handles an event that was taken, in a goroutine of its own, and returns
	// when it is settled.
	handle func(*task)

	taker  *taker                  // until the topic is paused; nil before open
	events <-chan *message.Message // the subscription; nil before open
}

// serve takes events whenever the topic is not paused.
func (s *server) serve() {
	for s.taking.Err() == nil {
		paused, changed := s.pause.state()
		if paused {
			select {
			case <-changed:
			case <-s.taking.Done():
			}
			continue
		}
		if err := s.open(); err != nil {
			s.fail(err)
			return
		}
		s.takeUntil(changed)
		if s.features.Drain && s.events != nil {
			s.subscribed.Store(false)
			over := s.events
			s.ends.Go(func() { s.discard(over) })
			s.events = nil
		}
	}
	if events := s.events; events != nil {
		s.ends.Go(func() { s.discard(events) })
	}
}

// open makes a taker, unless there is one, and subscribes to the topic, unless the
// subscription stands. If the run stops before it does, the taker has no events.
func (s *server) open() error {
	if s.taker == nil {
		s.taker = newTaker(s)
	}
	if s.events != nil {
		return nil
	}
	events, err := s.subscribe()
	if err != nil {
		s.taker.close()
		return &SubscriptionError{Topic: s.name, Err: err}
	}
	if s.events = events; events != nil {
		s.subscribed.Store(true)
	}
	return nil
}

// subscribe subscribes to the topic. It does not wait for that any longer when the
// run stops: it returns neither events nor an error then.
func (s *server) subscribe() (<-chan *message.Message, error) {
	type result struct {
		events <-chan *message.Message
		err    error
	}
	results := make(chan result)
	ctx, end := context.WithCancelCause(s.taker.subscription())
	stands := context.AfterFunc(s.taking, func() { end(ErrInterrupted) })
	s.ends.Go(func() {
		events, err := s.subscriber.Subscribe(ctx, s.name)
		select {
		case results <- result{events, err}:
		case <-s.taking.Done():
			if err == nil {
				s.discard(events)
			}
		}
	})
	select {
	case r := <-results:
		stands()
		return r.events, r.err
	case <-s.taking.Done():
		return nil, nil
	}
}

// takeUntil takes events until the run stops, or changed is closed.
func (s *server) takeUntil(changed <-chan struct{}) {
	t := s.taker
	s.taker = nil
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-changed:
			t.close()
		case <-t.taking.Done():
		}
	})
	t.take(s.events)
	watching.Wait()
}

// discard waits for the end of a subscription, which comes when the outcomes are
// stored. What the backend has sent too late goes back.
func (s *server) discard(events <-chan *message.Message) {
	if !s.features.Drain {
		<-s.working.Done() // it does not know before that we take no more
	}
	for msg := range events {
		backend.Release(msg)
	}
}
