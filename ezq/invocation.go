package ezq

import (
	"cmp"
	"context"
	"log/slog"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// invocation is one call of a handler, with its middleware. Copying the headers is left
// to those that ask for them.
type invocation struct {
	meta     Meta
	headers  message.Metadata
	logger   *slog.Logger
	info     *backend.Delivery // what the backend says about the event; may be nil
	delivery *delivery         // nil if it is of a control event
	slot     slotState
	batch    []*invocation // if it is of several events

	abandoned bool // the router stopped before the handler could begin
	exited    bool // the handler has ended its goroutine
	dropped   bool // the event has expired, and is acked without the handler
}

// slotState says on which slot a handler works.
type slotState uint8

const (
	slotShared slotState = iota // the one that the event was fetched with
	slotOwn                     // one of its own, after it had to wait
	slotNone                    // none: it waits
)

type invocationKey struct{}

func invocationFrom(ctx context.Context) *invocation {
	inv, _ := ctx.Value(invocationKey{}).(*invocation)
	return inv
}

func (inv *invocation) copyMeta() Meta {
	if inv == nil {
		return Meta{}
	}
	meta := inv.meta
	meta.CorrelationID, meta.CausationID = publishableID(inv.headers[correlationHeader]), publishableID(inv.headers[causationHeader])
	meta.ExpiresAt = backend.ExpiryOf(inv.headers)
	meta.Headers = maps.Clone(inv.headers)
	return meta
}

// describe fills in what is known about msg, which rt handles as event.
func (inv *invocation) describe(topic string, msg *message.Message, rt *route, event string) {
	inv.headers = msg.Metadata
	inv.meta.ID, inv.meta.Topic, inv.meta.PublishedTo, inv.meta.Event, inv.meta.Handler = msg.UUID, topic, topic, event, rt.label()
	if len(rt.events) > 0 {
		inv.meta.Event = rt.events[0]
	}
	if inv.info != nil {
		inv.meta.Delivery, inv.meta.Failures, inv.meta.PublishedAt = inv.info.Number, inv.info.Failures, inv.info.PublishedAt
		inv.meta.PublishedTo = cmp.Or(inv.info.PublishedTo, topic)
	}
}

// expire returns the error of an event that has expired, for whose handler it stands in. It is nil if the topic drops
// such events, and makes the event a dead letter if not.
func (inv *invocation) expire(err error) error {
	if inv != nil && inv.delivery != nil && inv.delivery.topic.dropExpired {
		inv.dropped = true
		return nil
	}
	return Permanent(err)
}

// acquireLimit waits until rt, whose handler is to begin, may handle one event more. It
// returns false if the router stops before that.
func (inv *invocation) acquireLimit(rt *route) bool {
	return rt.limit == nil || inv.awaitLimit(rt.limit, 1)
}

// awaitLimit waits for a token of limit, with which the handler of that many events begins.
// Meanwhile they take up no slot. It returns false if the router stops before that.
//
// If no other handler could begin with what comes next, nothing more is fetched then:
// it is for other processes.
func (inv *invocation) awaitLimit(limit chan struct{}, events int) bool {
	select {
	case limit <- struct{}{}:
		return true
	default:
	}
	topic := inv.delivery.topic
	if topic.singleHandler {
		events = topic.slots.maxWaiting
	}
	done := topic.slots.countWaiting(events)
	defer done()
	inv.yieldSlot()
	select {
	case limit <- struct{}{}:
		if inv.reacquireSlot() {
			return true
		}
		<-limit
	case <-inv.delivery.starting():
	}
	return false
}

// YieldSlot is for middleware that makes an event wait for another one: it calls wait,
// and meanwhile the event takes up none of Config.Concurrency, so that the other one
// can be handled. It returns the error of wait, or [ErrInterrupted] if the router stops
// before there is a slot again: the middleware returns that too, and the event is
// released and has not failed. Outside of an ezq router it just calls wait.
func YieldSlot(ctx context.Context, wait func() error) error {
	inv := invocationFrom(ctx)
	if inv == nil || inv.delivery == nil {
		return wait()
	}
	done := inv.delivery.topic.slots.countWaiting(1)
	defer done()
	inv.yieldSlot()
	err := wait()
	if inv.abandoned = !inv.reacquireSlot(); inv.abandoned && err == nil {
		return ErrInterrupted
	}
	return err
}

// yieldSlot gives up the slot that the handler works on.
func (inv *invocation) yieldSlot() {
	d := inv.delivery
	before := inv.slot
	inv.slot = slotNone
	if before == slotOwn || before == slotShared && d.slotSharers.Add(-1) == 0 {
		backend.Park(d.ctx, true)
		d.topic.slots.free()
	}
}

// reacquireSlot waits for a slot again. It returns false if the router stops before.
func (inv *invocation) reacquireSlot() bool {
	if !inv.delivery.topic.slots.reacquire(inv.delivery.starting(), nil) {
		return false
	}
	inv.ownSlot()
	return true
}

// ownSlot makes a slot that was reacquired the handler's own.
func (inv *invocation) ownSlot() {
	inv.slot = slotOwn
	backend.Park(inv.delivery.ctx, false)
}
