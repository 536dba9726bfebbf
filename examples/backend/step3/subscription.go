package step3

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

type subscription struct {
	broker   *Broker
	config   Config
	topic    string
	ctx      context.Context
	out      chan *message.Message
	stopping <-chan struct{} // nil, which is never closed, if the consumer does not say
	settling sync.WaitGroup

	mu       sync.Mutex
	inFlight int
	freed    chan struct{} // is sent to when a message is in flight no longer
}

// taking reports whether the consumer takes more messages.
func (s *subscription) taking() bool {
	select {
	case <-s.stopping:
		return false
	default:
		return s.ctx.Err() == nil
	}
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
	for s.taking() {
		if s.hasRoom() {
			return true
		}
		select {
		case <-s.freed:
		case <-s.stopping:
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
	for s.taking() {
		e, changed, wait := s.broker.take(s.topic, s.config.Group)
		if e != nil {
			return e
		}
		due := time.NewTimer(wait)
		select {
		case <-changed:
		case <-due.C:
		case <-s.stopping:
		case <-s.ctx.Done():
		}
		due.Stop()
	}
	return nil
}

// handOver delivers an entry, and does not wait for what becomes of it.
func (s *subscription) handOver(e *entry) {
	ctx, end := context.WithCancelCause(s.ctx)
	e.number++
	delivery := &backend.Delivery{
		Number: e.number, Failures: e.record.Failures, Done: e.record.Done, PublishedAt: e.stored,
		Progress: true, DeadLetters: true, Parker: s,
	}
	msg := message.NewMessage(e.id, slices.Clone(e.payload))
	msg.Metadata = maps.Clone(e.metadata)
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	msg.SetContext(backend.WithDelivery(ctx, delivery))
	select {
	case s.out <- msg:
		s.count(+1)
		s.settling.Go(func() {
			defer s.count(-1)
			defer end(nil) // the context of a message ends with it
			s.settle(ctx, e, msg, delivery, end)
		})
	case <-s.stopping:
		s.keep(e, end)
	case <-s.ctx.Done():
		s.keep(e, end)
	}
}

// keep releases what was not handed over.
func (s *subscription) keep(e *entry, end context.CancelCauseFunc) {
	end(nil)
	e.number-- // it was none
	s.broker.release(s.topic, s.config.Group, e, 0)
}

// Park is told by a consumer that has parked a message, and so has capacity for
// another one.
func (s *subscription) Park(parked bool) {
	if parked {
		s.count(-1)
	} else {
		s.count(+1)
	}
}

// pause is how long a nacked message waits at least: one that always fails keeps no processor busy.
const pause = 10 * time.Millisecond

// settle waits for what becomes of a message. ctx is its context; a consumer may give it
// another one.
func (s *subscription) settle(ctx context.Context, e *entry, msg *message.Message, delivery *backend.Delivery, end context.CancelCauseFunc) {
	delay := time.Duration(0)
	hold := time.NewTimer(s.config.Hold)
	defer hold.Stop()
	select {
	case <-msg.Acked():
		return
	case <-msg.Nacked():
		delay = pause
		disposition, ok := delivery.Disposition()
		if ok && disposition.Target != nil {
			s.broker.publish(disposition.Target.Topic, []*entry{e.deadLetter(disposition.Target)})
			return // in one step: the entry is in no topic while it is in flight
		}
		if ok {
			delay, e.record = max(delay, disposition.Fallback.Delay), disposition.Fallback
			if disposition.Fallback.InPlace {
				delay = disposition.Fallback.Delay // it was first, and is first again
			}
			if disposition.Fallback.Uncounted {
				e.number--
			}
		}
	case <-hold.C:
		end(backend.ErrLeaseLost) // and an ack or nack from now on changes nothing
	case <-ctx.Done(): // and not the subscription's, which ends a little earlier
		select {
		case <-msg.Acked(): // a select with several choices takes any
			return
		default:
		}
	}
	s.broker.release(s.topic, s.config.Group, e, delay)
}
