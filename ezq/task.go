package ezq

import (
	"context"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// task is one event, from when it was taken until it is settled.
type task struct {
	*taker
	msg    *message.Message
	routes []*route // its handlers
	event  string   // what it calls itself, or ""
	only   handling // by its handler, if that is the only one
	one    [1]outcome
}

// run handles the event and tells the backend what became of it.
func (k *task) run() {
	ctx, finish := k.workContext(k.msg.Context())
	defer finish()
	if k.routes == nil {
		k.alone(ctx, k.topic.unknown)
		return
	}
	routes := k.remaining(ctx)
	switch len(routes) {
	case 0:
		k.conclude(ctx, nil)
	case 1:
		k.alone(ctx, routes[0])
	default:
		k.together(ctx, routes)
	}
}

// workContext makes sure that ctx, the context of a message, ends when the run
// is interrupted. A Watermill backend lets it descend from the context of its
// subscription, as ezq's own do; not all do.
func (k *task) workContext(ctx context.Context) (_ context.Context, finish func()) {
	consumer := backend.ConsumerFrom(k.working)
	if backend.ConsumerFrom(ctx).Stopping == consumer.Stopping {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(backend.WithConsumer(ctx, consumer))
	stop := context.AfterFunc(k.working, func() { cancel(context.Cause(k.working)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// remaining returns the event's handlers without those that have succeeded in an
// earlier delivery.
func (k *task) remaining(ctx context.Context) []*route {
	d := backend.DeliveryFrom(ctx)
	if d == nil || len(d.Done) == 0 {
		return k.routes
	}
	return slices.DeleteFunc(slices.Clone(k.routes), func(rt *route) bool {
		return rt.name != "" && slices.Contains(d.Done, rt.name)
	})
}

// alone has the only handler handle the event.
func (k *task) alone(ctx context.Context, rt *route) {
	err := errGoexit
	defer func() { // deferred for runtime.Goexit
		k.msg.SetContext(ctx) // a middleware may have left another one behind
		k.one[0] = k.judge(ctx, rt, k.msg, err)
		k.conclude(ctx, k.one[:])
	}()
	err = k.attempt(ctx, rt, &k.only, k.msg)
}

// together has several handlers handle the event at the same time. Each gets a
// message of its own, so that its middleware decides about nothing but its own
// part.
func (k *task) together(ctx context.Context, routes []*route) {
	outcomes := make([]outcome, len(routes))
	var running sync.WaitGroup
	for i, rt := range routes {
		running.Go(func() {
			err := errGoexit
			ctx := ctx
			if d := backend.DeliveryFrom(ctx); d != nil {
				ctx = backend.WithDelivery(ctx, share(d))
			}
			part := k.msg.Copy()
			defer func() { outcomes[i] = k.judge(ctx, rt, part, err) }()
			err = k.attempt(ctx, rt, &handling{}, part)
		})
	}
	running.Wait()
	k.conclude(ctx, outcomes)
}

// share returns a delivery for one of several handlers. It has no receipt:
// no single handler may settle the message with the backend.
func share(d *backend.Delivery) *backend.Delivery {
	return &backend.Delivery{
		Number: d.Number, Failures: d.Failures, Done: d.Done, PublishedAt: d.PublishedAt, DeadLetters: d.DeadLetters,
	}
}

// attempt calls one handler.
func (k *task) attempt(ctx context.Context, rt *route, h *handling, msg *message.Message) error {
	msg.SetContext(context.WithValue(ctx, metaKey{}, h))
	h.describe(k.topic.name, msg)
	h.meta.Handler = rt.label()
	h.meta.Event = k.event
	if len(rt.events) > 0 {
		h.meta.Event = rt.events[0]
	}
	k.begin(h)
	defer k.end(h)
	out, err := safely(rt.handle, msg)
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
