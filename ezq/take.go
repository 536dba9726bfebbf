package ezq

import (
	"cmp"
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// taker takes the events of one topic, from when it is subscribed to until the
// router stops or the topic is paused, and starts the handlers.
type taker struct {
	*run
	*topic
	handle func(*task)

	// The same questions as of the run, for this topic.
	taking   context.Context
	starting context.Context
	close    context.CancelFunc // answers both with no

	workers workers
}

func newTaker(s *server) *taker {
	t := &taker{run: s.run, topic: s.topic, handle: s.handle, workers: make(workers)}
	var stop, giveBack context.CancelFunc
	t.starting, giveBack = context.WithCancel(s.starting)
	t.taking, stop = context.WithCancel(s.taking)
	t.close = func() {
		giveBack()
		stop()
	}
	return t
}

// subscription returns the context of a subscription to the topic.
func (t *taker) subscription() context.Context {
	state := &reception{}
	t.reception.Store(state)
	return backend.WithConsumer(t.working, backend.Consumer{
		Stopping:    t.taking.Done(),
		Concurrency: t.demand,
		Health:      state.hear,
	})
}

// take takes events, when there is a slot for one, until that stops.
func (t *taker) take(events <-chan *message.Message) {
	defer close(t.workers)
	for t.slots.take(t.taking.Done()) {
		msg, what := t.next(events)
		if what == slotYielded {
			continue
		}
		if what == noMore {
			t.slots.free()
			return
		}
		routes, event := t.find(msg)
		if t.control(msg, event) {
			t.slots.free()
			return
		}
		t.start(t.newTask(msg, routes, event, t.keys.enter(msg.Metadata[keyHeader])))
	}
}

// next's answers.
type received uint8

const (
	gotEvent received = iota
	slotYielded
	noMore
)

// next waits for the next message.
func (t *taker) next(events <-chan *message.Message) (*message.Message, received) {
	if t.starting.Err() != nil { // which may be why there is a slot
		return nil, noMore
	}
	select {
	case <-t.taking.Done():
		return nil, noMore
	case <-t.slots.yield:
		return nil, slotYielded
	case msg, ok := <-events:
		switch {
		case !ok:
			t.fail(&SubscriptionError{Topic: t.name})
			return nil, noMore
		case t.taking.Err() != nil: // both at once
			backend.Release(msg)
			return nil, noMore
		}
		return msg, gotEvent
	}
}

// control stops the run if msg is a control event, and reports whether it is.
//
// The ack comes first: a marker that came back would stop the next router too.
func (t *taker) control(msg *message.Message, event string) bool {
	if t.events[event] == nil {
		event = controlName(event)
	}
	if t.config.IgnoreControl || !isControl(event) {
		return false
	}
	msg.Ack()
	t.config.Logger.Info("ezq: stopping", "event", event, "topic", t.name, "id", excerpt.Of(msg.UUID))
	if event == (InterruptEvent{}).EventName() {
		t.giveUp(&stopReason{err: ErrInterrupted})
	} else {
		t.stop(&stopReason{timeout: t.endTimeout(msg)})
	}
	for _, rt := range t.events[event] {
		t.observe(rt, msg)
	}
	return true
}

// endTimeout is how long the handlers may go on after the EndEvent in msg.
func (t *taker) endTimeout(msg *message.Message) time.Duration {
	end, err := decode[EndEvent](EndEvent{}.EventName(), msg.Payload)
	if err != nil {
		t.config.Logger.Warn("ezq: an EndEvent has no valid timeout; stopping with the router's own", "error", err)
		return t.config.DrainTimeout
	}
	return cmp.Or(end.Timeout, t.config.DrainTimeout)
}

// observe calls a handler of a control event, outside of all middleware.
func (t *taker) observe(rt *route, msg *message.Message) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(msg.Context()))
	stop := context.AfterFunc(t.working, func() { cancel(context.Cause(t.working)) })
	observed := msg.Copy()
	observed.SetContext(ctx)
	h := &handling{logger: t.config.Logger}
	h.describe(t.name, observed)
	h.meta.Event, h.meta.Handler = rt.events[0], rt.label()
	observed.SetContext(context.WithValue(ctx, metaKey{}, h))
	t.handlers.Go(func() {
		defer stop()
		defer cancel(nil)
		if _, err := safely(rt.call, observed); err != nil {
			t.config.Logger.Error("ezq: the handler of a control event failed",
				"event", h.meta.Event, "topic", t.name, "handler", h.meta.Handler, "error", err)
		}
	})
}
