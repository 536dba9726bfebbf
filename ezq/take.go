package ezq

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// taker takes the events of one topic and starts a handler for each.
type taker struct {
	*run
	topic *topic
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
		if !ok {
			return
		}
		routes, event := t.topic.find(msg)
		if t.control(msg, event) {
			return
		}
		k := &task{taker: t, msg: msg, routes: routes, event: event}
		t.handlers.Go(func() {
			defer func() { <-slots }()
			k.run()
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
		t.fail(&SubscriptionError{Topic: t.topic.name})
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
func (t *taker) control(msg *message.Message, event string) bool {
	if t.config.IgnoreControl || !isControl(event) {
		return false
	}
	reason := &stopReason{timeout: t.config.DrainTimeout}
	switch event {
	case EndEvent{}.EventName():
		end, err := decode[EndEvent](event, msg.Payload)
		if err != nil {
			t.config.Logger.Warn("ezq: an EndEvent has no valid timeout; stopping with the router's own", "error", err)
		} else if end.Timeout > 0 {
			reason.timeout = end.Timeout
		}
	case InterruptEvent{}.EventName():
		reason = &stopReason{err: ErrInterrupted}
	}
	msg.Ack()
	t.config.Logger.Info("ezq: stopping", "event", event, "topic", t.topic.name, "id", msg.UUID)
	t.stop(reason)
	for _, rt := range t.topic.events[event] {
		t.observe(rt, msg)
	}
	return true
}

// observe calls a handler of a control event, outside of all middleware.
func (t *taker) observe(rt *route, msg *message.Message) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(msg.Context()))
	stop := context.AfterFunc(t.working, func() { cancel(context.Cause(t.working)) })
	observed := msg.Copy()
	observed.SetContext(ctx)
	h := &handling{}
	h.describe(t.topic.name, observed)
	h.meta.Event, h.meta.Handler = rt.events[0], rt.label()
	observed.SetContext(context.WithValue(ctx, metaKey{}, h))
	t.handlers.Go(func() {
		defer stop()
		defer cancel(nil)
		if _, err := safely(rt.call, observed); err != nil {
			t.config.Logger.Error("ezq: the handler of a control event failed",
				"event", h.meta.Event, "topic", t.topic.name, "handler", h.meta.Handler, "error", err)
		}
	})
}
