package step2

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

type subscription struct {
	broker *Broker
	topic  string
	ctx    context.Context
	out    chan *message.Message
}

func (s *subscription) run() {
	defer close(s.out)
	for e := s.next(); e != nil; e = s.next() {
		s.handOver(e)
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

// handOver delivers an entry, and returns when that is over.
func (s *subscription) handOver(e *entry) {
	ctx, end := context.WithCancel(s.ctx)
	defer end() // the context of a message ends with it
	msg := message.NewMessage(e.id, slices.Clone(e.payload))
	msg.Metadata = maps.Clone(e.metadata)
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	msg.SetContext(ctx)
	select {
	case s.out <- msg:
		s.settle(ctx, e, msg)
	case <-s.ctx.Done():
		s.broker.release(s.topic, e)
	}
}

// pause is how long a nacked message waits: one that always fails keeps nobody busy.
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
