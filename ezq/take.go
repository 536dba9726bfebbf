package ezq

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// taker takes the events of one topic and starts a handler for each.
type taker struct {
	*run
	topic  string
	routes routes
	handle message.HandlerFunc
}

// take takes events, as many at a time as Config.Concurrency allows, until the
// run stops.
func (t *taker) take(events <-chan *message.Message) {
	slots := make(chan struct{}, t.config.Concurrency)
	for {
		select {
		case slots <- struct{}{}:
		case <-t.taking.Done():
			return
		}
		msg, ok := t.next(events)
		if !ok || t.control(msg) {
			return
		}
		t.handlers.Go(func() {
			defer func() { <-slots }()
			t.settle(msg)
		})
	}
}

// next returns the next message. ok is false if the run stops.
func (t *taker) next(events <-chan *message.Message) (msg *message.Message, ok bool) {
	select {
	case <-t.taking.Done():
		return nil, false
	case msg, ok = <-events:
	}
	if !ok {
		t.fail(&SubscriptionError{Topic: t.topic})
		return nil, false
	}
	if t.taking.Err() != nil { // both at once
		release(msg)
		return nil, false
	}
	return msg, true
}

// control stops the run if msg is a control event, and reports whether it is.
//
// The ack comes first: a marker that came back would stop the next router too.
func (t *taker) control(msg *message.Message) bool {
	if t.config.IgnoreControl {
		return false
	}
	name, _ := peek(msg.Payload)
	reason := &stopReason{timeout: t.config.DrainTimeout}
	switch string(name) {
	case EndEvent{}.EventName():
		end, err := decode[EndEvent](string(name), msg.Payload)
		if err != nil {
			t.config.Logger.Warn("ezq: an EndEvent has no valid timeout; stopping with the router's own", "error", err)
		} else if end.Timeout > 0 {
			reason.timeout = end.Timeout
		}
	case InterruptEvent{}.EventName():
		reason = &stopReason{err: ErrInterrupted}
	default:
		return false
	}
	ctx, _ := withMeta(context.WithoutCancel(msg.Context()), t.topic, string(name), msg)
	msg.Ack()
	t.config.Logger.Info("ezq: stopping", "event", string(name), "topic", t.topic, "id", msg.UUID)
	t.stop(reason)
	t.observe(ctx, string(name), msg)
	return true
}

// observe calls the handler of a control event, if there is one.
func (t *taker) observe(ctx context.Context, event string, msg *message.Message) {
	rt := t.routes[event]
	if rt == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.working, func() { cancel(context.Cause(t.working)) })
	observed := msg.Copy()
	observed.SetContext(ctx)
	t.handlers.Go(func() {
		defer stop()
		defer cancel(nil)
		if _, err := safely(rt.call, observed); err != nil {
			t.config.Logger.Error("ezq: the handler of a control event failed", "event", event, "topic", t.topic, "error", err)
		}
	})
}

// release gives msg back as if it had not been delivered.
func release(msg *message.Message) {
	var unchanged backend.Redelivery
	if d := backend.DeliveryFrom(msg.Context()); d != nil {
		unchanged.Failures, unchanged.Done = d.Failures, d.Done
	}
	backend.Nack(msg, unchanged)
}

// interrupted reports whether the context of an event ended because its consumer
// no longer counts: it has stopped, or lost the event.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrInterrupted) || errors.Is(cause, ErrLeaseLost)
}
