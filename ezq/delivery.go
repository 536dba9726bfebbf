package ezq

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// delivery is one event, from when it was fetched until it is settled. It has a slot.
type delivery struct {
	consumer *consumer
	topic    *topic
	msg      *message.Message
	ctx      context.Context
	info     *backend.Delivery // what the backend says about it; may be nil
	routes   []*route          // its handlers; nil: it has none
	event    string            // the name that the message gives it, or ""
	ticket   *keyTicket        // nil without a key

	slotSharers    atomic.Int32 // how many handlers work on its slot
	onlyInvocation invocation   // of its handler, if that is the only one
	onlyResult     [1]result
}

// newDelivery is for an event that was fetched just now, with a slot.
func newDelivery(c *consumer, msg *message.Message, routes []*route, event string, ticket *keyTicket) *delivery {
	c.topic.counts.claimed.Add(1)
	info := backend.DeliveryFromContext(msg.Context())
	return &delivery{consumer: c, topic: c.topic, msg: msg, info: info, routes: routes, event: event, ticket: ticket}
}

func (d *delivery) starting() <-chan struct{} { return d.consumer.life.starting.Done() }

func (d *delivery) logger() *slog.Logger { return d.consumer.run.config.Logger }

// adopt is for a delivery whose message has passed through the middleware of a Watermill
// router, as msg. Others of its key may be there that were acked before that.
func (d *delivery) adopt(msg *message.Message) {
	d.msg.Payload, d.msg.Metadata = msg.Payload, msg.Metadata
	d.msg.SetContext(msg.Context())
	if isClosed(msg.Acked()) {
		d.msg.Ack()
	}
	d.ticket = d.topic.attachedKeys.ticketWithin(d.ticket)
}

// handle has the handlers of the event called, and settles it.
func (d *delivery) handle() {
	ctx, finish := d.workContext(d.msg.Context())
	defer finish()
	d.ctx = ctx
	if !d.awaitKey() {
		d.abandon()
		return
	}
	if d.settleUnhandled() {
		return
	}
	routes := d.remainingRoutes()
	switch len(routes) {
	case 0:
		d.settle(nil)
		d.topic.slots.free()
	case 1:
		d.slotSharers.Store(1)
		d.invokeOnly(routes[0])
	default:
		d.slotSharers.Store(int32(len(routes))) //nolint:gosec // there are few
		d.invokeSeveral(routes)
	}
}

// workContext makes sure that ctx, the context of a message, ends when the run
// is interrupted. A Watermill backend lets it descend from the context of its
// subscription, as ezq's own do; not all do.
func (d *delivery) workContext(ctx context.Context) (_ context.Context, finish func()) {
	if backend.ConsumerFromContext(ctx).Stopping == d.consumer.life.fetching.Done() {
		return ctx, func() {}
	}
	working := d.consumer.life.working
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(working, func() { cancel(context.Cause(working)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// awaitKey waits until no event of the same key is being handled any more. It
// returns false, and leaves no slot, if the router stops before that.
func (d *delivery) awaitKey() bool {
	if d.ticket == nil {
		return true
	}
	if !d.ticket.ready() && !d.awaitKeyWithoutSlot() {
		return false
	}
	// If the events before it were released, so is this one. Otherwise it would
	// begin before those, which end their tickets as they are released.
	if d.consumer.life.starting.Err() == nil {
		return true
	}
	d.topic.slots.free()
	return false
}

func (d *delivery) awaitKeyWithoutSlot() bool {
	slots := d.topic.slots
	done := slots.countWaiting(1)
	defer done()
	backend.Park(d.ctx, true)
	slots.free()
	fromWatermill := slots.fromWatermill
	if d.ticket.outer == nil {
		fromWatermill = nil // it is not in the middleware of a Watermill router
	}
	select {
	case <-d.ticket.previous:
		if slots.reacquireFrom(d.starting(), nil, fromWatermill) {
			backend.Park(d.ctx, false)
			return true
		}
	case <-d.starting():
	}
	return false
}

// abandon releases an event that the router stopped before. It has no slot.
func (d *delivery) abandon() {
	d.settle([]result{{route: d.topic.unhandled, outcome: released, disposition: notStarted()}})
}

// endWithout ends a delivery without calling handlers. Its slot is left to the caller.
func (d *delivery) endWithout(outcome outcome) {
	if outcome == released {
		backend.Release(d.msg)
	}
	d.ticket.end()
	d.topic.counts.add(outcome)
}

// settleUnhandled settles an event that has no handler, unless it is to fail: it
// acks one that is to be ignored, and releases one that another program may know.
func (d *delivery) settleUnhandled() bool {
	if d.routes != nil {
		return false
	}
	if d.topic.ignored[d.event] {
		d.ticket.end()
		d.topic.counts.add(ignored)
		d.msg.Ack()
		d.topic.slots.free()
		return true
	}
	now := time.Now()
	first, log := d.topic.unknownEvents.observe(d.event, now)
	if d.info != nil && d.info.Progress {
		if first = d.info.UnknownSince; first.IsZero() {
			first = now
		}
	}
	age, unknownFor := now.Sub(first), d.consumer.run.config.UnknownFor
	if unknownFor < minUnknownDelay || age >= unknownFor {
		return false
	}
	d.releaseUnknown(first, unknownDelay(age), log)
	return true
}

func (d *delivery) releaseUnknown(since time.Time, wait time.Duration, log bool) {
	redelivery := d.info.Unchanged()
	redelivery.Delay, redelivery.Uncounted, redelivery.UnknownSince = wait, true, since
	if log {
		d.logger().WarnContext(d.ctx, "ezq: unknown event released: deploy a program that knows it, or name it with Router.Ignore",
			"event", excerpt.Of(d.event), "topic", d.topic.name, "id", excerpt.Of(d.msg.UUID), "retry_in", wait.Round(time.Millisecond).String())
	}
	d.ticket.end()
	d.topic.counts.add(unknown)
	done := d.topic.slots.countWaiting(1)
	d.topic.slots.free()
	d.awaitDelay(wait)
	backend.Nack(d.msg, redelivery)
	done()
}

// awaitDelay waits in place of a backend that cannot, until the router stops at most.
func (d *delivery) awaitDelay(wait time.Duration) {
	if !d.consumer.run.features.Redelay {
		closedWithin(wait, d.consumer.life.fetching.Done())
	}
}

// remainingRoutes returns the event's handlers without those that have succeeded in an
// earlier delivery. An unknown event has one that fails.
func (d *delivery) remainingRoutes() []*route {
	if d.routes == nil {
		return d.topic.unhandledRoutes
	}
	if d.info == nil || len(d.info.Done) == 0 {
		return d.routes
	}
	return slices.DeleteFunc(slices.Clone(d.routes), func(rt *route) bool {
		return rt.name != "" && slices.Contains(d.info.Done, rt.name)
	})
}

// invokeOnly has the only handler handle the event.
func (d *delivery) invokeOnly(rt *route) {
	inv := &d.onlyInvocation
	inv.info = d.info
	err := errGoexit
	defer func() { // deferred for runtime.Goexit
		d.msg.SetContext(d.ctx) // a middleware may have left another one behind
		d.onlyResult[0] = d.classify(d.ctx, rt, inv, d.msg, err)
		d.settle(d.onlyResult[:])
		if inv.slot != slotNone {
			d.topic.slots.free()
		}
	}()
	d.invoke(d.ctx, rt, inv, d.msg, &err)
}

// invokeSeveral has several handlers handle the event at the same time. Each gets a
// message of its own, so that its middleware decides about nothing but its own
// part.
func (d *delivery) invokeSeveral(routes []*route) {
	results := make([]result, len(routes))
	var running sync.WaitGroup
	for i, rt := range routes {
		running.Go(func() {
			err := errGoexit
			ctx, part, inv := d.ctx, d.msg.Copy(), &invocation{}
			if d.info != nil {
				inv.info = sharedDelivery(d.info)
				ctx = backend.WithDelivery(ctx, inv.info)
			}
			defer func() {
				results[i] = d.classify(ctx, rt, inv, part, err)
				inv.yieldSlot()
			}()
			d.invoke(ctx, rt, inv, part, &err)
		})
	}
	running.Wait()
	d.settle(results)
}

// invoke calls one handler. err is what it is before if the handler and all its
// middleware end their goroutine.
func (d *delivery) invoke(ctx context.Context, rt *route, inv *invocation, msg *message.Message, err *error) {
	inv.delivery, inv.logger = d, d.logger()
	if inv.abandoned = !inv.acquireLimit(rt); inv.abandoned {
		*err = ErrInterrupted
		return
	}
	defer rt.freeLimit()
	if interrupted(ctx) { // while it waited; another consumer may have had it since
		inv.abandoned = true
		*err = ErrInterrupted
		return
	}
	if rt.size > 0 || len(d.routes) > 1 {
		ctx = backend.WithExclusive(ctx, false)
	}
	ctx = context.WithValue(ctx, invocationKey{}, inv)
	msg.SetContext(ctx)
	inv.describe(d.topic.name, msg, rt, d.event)
	d.consumer.run.track(inv)
	defer d.consumer.run.untrack(inv)
	returned := false
	defer func() {
		if !returned { // so no middleware has an error: it gets one now
			msg.SetContext(ctx)
			inv.exited = true
			*err = rejectProduced(callSafely(rt.handle, msg))
		}
	}()
	*err = rejectProduced(callSafely(rt.handle, msg))
	returned = true
}

// classify returns what became of msg, which the handler of inv has returned from with err.
func (d *delivery) classify(ctx context.Context, rt *route, inv *invocation, msg *message.Message, err error) result {
	r := result{route: rt, err: err}
	switch {
	case backend.Nacked(msg): // by a middleware, or because it was interrupted
		r.outcome = released
		if inv.info != nil {
			r.disposition, _ = inv.info.Disposition()
		}
		if r.disposition.Target != nil {
			r.outcome = deadLettered
		}
	case err == nil && inv.dropped:
		r.outcome = dropped
	case err == nil, isClosed(msg.Acked()):
		r.outcome = succeeded
	case inv.abandoned:
		r.outcome, r.disposition = released, notStarted()
	case interrupted(ctx), errors.Is(err, ErrLeaseLost): // as middleware finds out that settles the message itself
		r.outcome, r.disposition.Fallback.InPlace = released, true
	default:
		d.classifyError(&r, inv.info)
	}
	return r
}

// classifyError completes the result of a handler that has returned r.err.
func (d *delivery) classifyError(r *result, info *backend.Delivery) {
	if delay, ok := SnoozeDelay(r.err); ok {
		r.outcome, r.disposition.Fallback.Delay, r.disposition.Fallback.Uncounted = released, delay, true
		return
	}
	r.outcome = failed
	if !IsPermanent(r.err) {
		return
	}
	if info == nil || !info.DeadLetters {
		d.logPermanentRetried(r.err)
		return
	}
	from, failures := d.topic.name, info.Failures+1
	r.outcome, r.disposition.Target = deadLettered, &backend.DeadLetterTarget{
		Topic: from + backend.DeadLetterSuffix, Metadata: backend.DeadLetterMetadata(from, r.route.label(), failures, r.err),
	}
	failures, _ = strconv.Atoi(r.disposition.Target.Metadata[backend.DeadLetterFailures]) // an event that has expired has not failed
	d.log(slog.LevelError, "ezq: event dead-lettered", *r, failures, "to", r.disposition.Target.Topic)
}

// settle settles the event by what became of it with its handlers.
func (d *delivery) settle(results []result) {
	worst := succeeded // if all its handlers have succeeded before
	if len(results) > 0 {
		worst = dropped
	}
	redelivery := d.info.Unchanged()
	redelivery.InPlace, redelivery.Uncounted = true, true // unless a handler says otherwise
	earlier := redelivery.Failures
	var target *backend.DeadLetterTarget
	for _, r := range results {
		worst = max(worst, r.outcome)
		switch r.outcome {
		case succeeded:
			if r.route.name != "" && len(d.routes) > 1 {
				redelivery.Done = append(slices.Clip(redelivery.Done), r.route.name)
			}
		case deadLettered:
			target, redelivery.Uncounted = r.disposition.Target, false
		case released:
			redelivery.Delay = max(redelivery.Delay, r.disposition.Fallback.Delay)
			redelivery.Failures = max(redelivery.Failures, r.disposition.Fallback.Failures)
			redelivery.InPlace = redelivery.InPlace && r.disposition.Fallback.InPlace
			redelivery.Uncounted = redelivery.Uncounted && r.disposition.Fallback.Uncounted
		case failed: // once for them all
			wait := backoff(earlier+1, r.err)
			redelivery.Delay = max(redelivery.Delay, wait)
			redelivery.Failures = earlier + 1
			redelivery.InPlace, redelivery.Uncounted = false, false
			d.logFailure(r, redelivery.Failures, wait)
		}
	}
	if d.routes != nil && (worst != released || !redelivery.InPlace || !redelivery.Uncounted) {
		redelivery.UnknownSince = time.Time{} // a handler has begun with it
	}
	if worst >= released && errors.Is(context.Cause(d.ctx), ErrCancelled) { // so nothing comes back
		worst = cancelled
	}
	d.ticket.end()
	d.topic.counts.add(worst)
	d.settleAs(worst, redelivery, target)
}

// settleAs acks, nacks or dead-letters the event. One that has been acked or nacked
// already stays so.
func (d *delivery) settleAs(outcome outcome, redelivery backend.Redelivery, target *backend.DeadLetterTarget) {
	switch outcome {
	case succeeded, dropped:
		d.msg.Ack()
	case deadLettered:
		backend.DeadLetter(d.msg, *target)
	case released, failed:
		d.awaitDelay(redelivery.Delay)
		backend.Nack(d.msg, redelivery)
	case cancelled:
		d.msg.Nack() // which changes nothing: it tells the backend that its handler has ended
	}
}

// logPermanentRetried says once for each topic that a permanent error does not
// dead-letter its event on this backend.
func (d *delivery) logPermanentRetried(err error) {
	d.topic.permanentRetried.Do(func() {
		d.logger().ErrorContext(d.ctx, "ezq: an event has failed for good and will be tried again all the same: "+
			"the backend does not promise DeadLetter: use middleware.Poison, and set its To",
			"event", excerpt.Of(d.event), "topic", d.topic.name, "id", excerpt.Of(d.msg.UUID), "error", err)
	})
}

func (d *delivery) logFailure(r result, failures int, wait time.Duration) {
	level := slog.LevelWarn
	if IsPermanent(r.err) { // no retry cures it, though it comes back: nothing takes it out of the queue
		level = slog.LevelError
	}
	d.log(level, "ezq: event failed", r, failures, "retry_in", wait.Round(time.Millisecond).String())
}

func (d *delivery) log(level slog.Level, text string, r result, failures int, more ...any) {
	event := d.event
	if len(r.route.events) > 0 {
		event = r.route.events[0]
	}
	attrs := append([]any{
		"event", excerpt.Of(event), "topic", d.topic.name, "handler", r.route.label(), "id", excerpt.Of(d.msg.UUID), "failures", failures, "error", r.err,
	}, more...)
	if d.info != nil && d.info.PublishedTo != "" {
		attrs = append(attrs, "published_to", d.info.PublishedTo)
	}
	if p := (*PanicError)(nil); errors.As(r.err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	sparse.Log(d.ctx, d.logger(), level, sparse.About{Text: text, Topic: d.topic.name, Handler: r.route.label()}, attrs...)
}
