package ezq

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// returning is how long a topic that is resumed at once leaves the backend to store what
// the pause has given back. What the next subscription receives would be before that.
const returning = 5 * time.Second

// server delivers the events of one topic until the run stops.
type server struct {
	*run
	*topic

	// handle handles an event that was taken, in a goroutine of its own, and returns
	// when it is settled.
	handle func(*task)

	taker *taker        // until the topic is paused; nil before open
	sub   *subscription // nil before open
}

// subscription is one of a topic.
type subscription struct {
	events <-chan *message.Message
	end    context.CancelCauseFunc // of its context
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
		if s.features.Drain && s.sub != nil {
			s.subscribed.Store(false)
			s.awaitReturn(s.sub)
			s.sub = nil
		}
	}
	if sub := s.sub; sub != nil {
		s.ends.Go(func() { s.discard(sub) })
	}
}

// awaitReturn waits until a subscription has ended whose topic is paused. If handlers
// still work on what it has brought, that may be long, and it waits only until all else
// has had the time to go back.
func (s *server) awaitReturn(sub *subscription) {
	ended := make(chan struct{})
	s.ends.Go(func() {
		defer close(ended)
		s.discard(sub)
	})
	pauses{ended, s.taking.Done()}.pass(returning, nil)
}

// open makes a taker, unless there is one, and subscribes to the topic, unless the
// subscription stands. If the run stops before it does, the taker has no events.
func (s *server) open() error {
	if s.taker == nil {
		s.taker = newTaker(s)
	}
	if s.sub != nil {
		return nil
	}
	sub, err := s.subscribe()
	if err != nil {
		s.taker.close()
		return &SubscriptionError{Topic: s.name, Err: err}
	}
	if s.sub = sub; sub != nil {
		s.subscribed.Store(true)
	}
	return nil
}

// subscribe subscribes to the topic. It does not wait for that any longer when the
// run stops: it returns neither a subscription nor an error then.
func (s *server) subscribe() (*subscription, error) {
	results := make(chan error)
	sub := &subscription{}
	ctx, end := context.WithCancelCause(s.taker.subscription())
	sub.end = end
	stands := context.AfterFunc(s.taking, func() { end(ErrInterrupted) })
	s.ends.Go(func() {
		var err error
		if sub.events, err = s.subscriber.Subscribe(ctx, s.name); err != nil {
			end(nil)
		}
		select {
		case results <- err:
		case <-s.taking.Done():
			if err == nil {
				s.discard(sub)
			}
		}
	})
	select {
	case err := <-results:
		stands()
		if err != nil {
			return nil, err
		}
		return sub, nil
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
	var events <-chan *message.Message
	if s.sub != nil {
		events = s.sub.events
	}
	t.take(events)
	watching.Wait()
}

// discard waits for the end of a subscription, which comes when the outcomes are
// stored. What the backend has sent too late goes back.
func (s *server) discard(sub *subscription) {
	if !s.features.Drain {
		<-s.working.Done() // it does not know before that we take no more
	}
	for msg := range sub.events {
		backend.Release(msg)
	}
	sub.end(nil)
}
