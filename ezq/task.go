package ezq

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// task is one event, from when it was taken until it is settled. It has a slot.
type task struct {
	*taker
	msg    *message.Message
	ctx    context.Context
	routes []*route     // its handlers
	event  string       // what it calls itself, or ""
	turn   *turn        // among the events with its key; nil without one
	shares atomic.Int32 // how many handlers work on its slot
	only   handling     // by its handler, if that is the only one
	one    [1]outcome
}

// newTask is for an event that was taken just now, with a slot.
func (t *taker) newTask(msg *message.Message, routes []*route, event string, turn *turn) *task {
	t.counts.taken.Add(1)
	return &task{taker: t, msg: msg, routes: routes, event: event, turn: turn}
}

// arrive is for a task whose message has passed through the middleware of a Watermill
// router. There may be others of its key there, which were acked before that.
func (k *task) arrive(msg *message.Message) {
	k.takeOver(msg)
	k.turn = k.inside.after(k.turn)
}

// handle handles the event and tells the backend what became of it.
func (k *task) handle() {
	ctx, finish := k.workContext(k.msg.Context())
	defer finish()
	k.ctx = ctx
	if !k.awaitTurn() {
		k.turnAway()
		return
	}
	if k.passOver() {
		return
	}
	routes := k.remaining()
	switch len(routes) {
	case 0:
		k.conclude(nil)
		k.slots.free()
	case 1:
		k.shares.Store(1)
		k.alone(routes[0])
	default:
		k.shares.Store(int32(len(routes))) //nolint:gosec // there are few
		k.together(routes)
	}
}

// takeOver gives the task's message what middleware has made of a copy of it.
func (k *task) takeOver(msg *message.Message) {
	k.msg.Payload, k.msg.Metadata = msg.Payload, msg.Metadata
	k.msg.SetContext(msg.Context())
	if isClosed(msg.Acked()) {
		k.msg.Ack()
	}
}

// turnAway gives back the event of a task whose turn has not come. It has no slot.
func (k *task) turnAway() {
	k.conclude([]outcome{{route: k.unknown, fate: givenBack, verdict: notBegun()}})
}

// endWith ends a task whose handlers are not to be called. Its slot is left to the caller.
func (k *task) endWith(fate fate) {
	if fate == givenBack {
		backend.Release(k.msg)
	}
	k.turn.end()
	k.counts.conclude(fate)
}

// workContext makes sure that ctx, the context of a message, ends when the run
// is interrupted. A Watermill backend lets it descend from the context of its
// subscription, as ezq's own do; not all do.
func (k *task) workContext(ctx context.Context) (_ context.Context, finish func()) {
	if backend.ConsumerFromContext(ctx).Stopping == k.taking.Done() {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(k.working, func() { cancel(context.Cause(k.working)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// remaining returns the event's handlers without those that have succeeded in an
// earlier delivery. An unknown event has one that fails.
func (k *task) remaining() []*route {
	if k.routes == nil {
		return k.nobody
	}
	d := backend.DeliveryFromContext(k.ctx)
	if d == nil || len(d.Done) == 0 {
		return k.routes
	}
	return slices.DeleteFunc(slices.Clone(k.routes), func(rt *route) bool {
		return rt.name != "" && slices.Contains(d.Done, rt.name)
	})
}

// alone has the only handler handle the event.
func (k *task) alone(rt *route) {
	err := errGoexit
	defer func() { // deferred for runtime.Goexit
		k.msg.SetContext(k.ctx) // a middleware may have left another one behind
		k.one[0] = k.judge(k.ctx, rt, &k.only, k.msg, err)
		k.conclude(k.one[:])
		if k.only.seat != none {
			k.slots.free()
		}
	}()
	k.attempt(k.ctx, rt, &k.only, k.msg, &err)
}

// together has several handlers handle the event at the same time. Each gets a
// message of its own, so that its middleware decides about nothing but its own
// part.
func (k *task) together(routes []*route) {
	outcomes := make([]outcome, len(routes))
	var running sync.WaitGroup
	for i, rt := range routes {
		running.Go(func() {
			err := errGoexit
			ctx := k.ctx
			if d := backend.DeliveryFromContext(ctx); d != nil {
				ctx = backend.WithDelivery(ctx, share(d))
			}
			part, h := k.msg.Copy(), &handling{}
			defer func() {
				outcomes[i] = k.judge(ctx, rt, h, part, err)
				h.stepAside()
			}()
			k.attempt(ctx, rt, h, part, &err)
		})
	}
	running.Wait()
	k.conclude(outcomes)
}

// share returns a delivery for one of several handlers, whose verdict is its own. It
// has no receipt: no single handler may settle the message with the backend.
func share(d *backend.Delivery) *backend.Delivery {
	part := d.Copy()
	part.Parker, part.Receipt = nil, nil
	return part
}

// attempt calls one handler. The result is what it is before if the handler and all
// its middleware end their goroutine.
func (k *task) attempt(ctx context.Context, rt *route, h *handling, msg *message.Message, result *error) {
	h.task, h.logger = k, k.config.Logger
	if h.turnedAway = !h.enter(rt); h.turnedAway {
		*result = ErrInterrupted
		return
	}
	defer rt.leave()
	if interrupted(ctx) { // while it waited; others may have had it since
		h.turnedAway = true
		*result = ErrInterrupted
		return
	}
	if rt.size > 0 || len(k.routes) > 1 {
		ctx = backend.WithShared(ctx)
	}
	ctx = context.WithValue(ctx, metaKey{}, h)
	msg.SetContext(ctx)
	h.describe(k.name, msg)
	h.meta.Handler = rt.label()
	h.meta.Event = k.event
	if len(rt.events) > 0 {
		h.meta.Event = rt.events[0]
	}
	k.begin(h)
	defer k.end(h)
	returned := false
	defer func() {
		if !returned { // so no middleware knows: it hears it now
			msg.SetContext(ctx)
			h.exited = true
			*result = consumed(safely(rt.handle, msg))
		}
	}()
	*result = consumed(safely(rt.handle, msg))
	returned = true
}

// consumed makes an error of messages that a middleware wants to be published.
func consumed(out []*message.Message, err error) error {
	if err == nil && len(out) > 0 {
		return errProduced
	}
	return err
}

func (rn *run) begin(h *handling) {
	rn.mu.Lock()
	rn.active[h] = struct{}{}
	rn.mu.Unlock()
}

func (rn *run) end(h *handling) {
	rn.mu.Lock()
	delete(rn.active, h)
	rn.mu.Unlock()
}
