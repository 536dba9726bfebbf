package ezq

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// settle handles msg and acks or nacks it.
func (t *taker) settle(msg *message.Message) {
	ctx, finish := t.workContext(msg.Context())
	defer finish()
	_, event := t.routes.find(msg.Payload)
	ctx, h := withMeta(ctx, t.topic, event, msg)
	msg.SetContext(ctx)
	t.begin(h)
	defer t.end(h)

	err := errGoexit
	defer func() { t.conclude(ctx, h.meta, msg, err) }() // deferred for runtime.Goexit
	out, failure := safely(t.handle, msg)
	if failure == nil && len(out) > 0 {
		failure = errProduced
	}
	err = failure
}

// workContext makes sure that ctx, the context of a message, ends when the run
// is interrupted. A Watermill backend lets it descend from the context of its
// subscription, as ezq's own do; not all do.
func (t *taker) workContext(ctx context.Context) (_ context.Context, finish func()) {
	consumer := backend.ConsumerFrom(t.working)
	if backend.ConsumerFrom(ctx).Stopping == consumer.Stopping {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(backend.WithConsumer(ctx, consumer))
	stop := context.AfterFunc(t.working, func() { cancel(context.Cause(t.working)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
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

// conclude tells the backend what became of msg.
func (t *taker) conclude(ctx context.Context, meta Meta, msg *message.Message, err error) {
	if err == nil {
		msg.Ack() // does nothing if the event was given back
		return
	}
	if interrupted(ctx) {
		release(msg)
		return
	}
	if unknown := (*UnknownEventError)(nil); t.config.IgnoreUnknown && errors.As(err, &unknown) {
		t.config.Logger.DebugContext(ctx, "ezq: unknown event ignored", "event", meta.Event, "topic", meta.Topic, "id", meta.ID)
		msg.Ack()
		return
	}
	wait := pace(meta.Failures+1, err)
	t.logFailure(ctx, meta, wait, err)
	msg.SetContext(ctx) // a middleware may have left another one behind
	if !t.features.Redelay {
		closedWithin(wait, t.taking.Done()) // the backend cannot wait, so we do
	}
	backend.Nack(msg, backend.Redelivery{Delay: wait, Failures: meta.Failures + 1})
}

const (
	paceMin = time.Second
	paceMax = 5 * time.Minute
)

// pace is how long an event waits that has failed so many times, the last time
// with err: as long as the handler asked, or else a second, doubling up to five
// minutes, and up to a fifth less, so that events that failed together do not
// come back together.
func pace(failures int, err error) time.Duration {
	if wait, ok := RetryDelay(err); ok {
		return wait
	}
	wait := min(paceMin<<min(failures-1, 20), paceMax)
	return wait - rand.N(wait/5)
}

func (t *taker) logFailure(ctx context.Context, meta Meta, wait time.Duration, err error) {
	attrs := []any{
		"event", meta.Event, "topic", meta.Topic, "id", meta.ID,
		"failures", meta.Failures + 1, "retry_in", wait, "error", err,
	}
	if p := (*PanicError)(nil); errors.As(err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	t.config.Logger.ErrorContext(ctx, "ezq: event failed", attrs...)
}
