package ezq

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// HandleBatch makes fn the handler of events of type E, several at a time. A batch
// is handled when it has as many events as [Size] says, and otherwise when [Linger]
// has passed since its first event. fn is called concurrently; each batch that is handled
// counts as one event against Config.Concurrency and [Concurrency]. Events that wait for
// their batch do not count.
//
// If fn returns nil, all events have succeeded. If it returns a [BatchError], the events
// that it names fail, and no others. With any other error, or a panic, all fail. An event
// that cannot be decoded fails on its own and is in no batch.
//
// [MetasFromContext] describes the events. The context of a batch ends with the cause
// [ErrInterrupted], not when the lease of one of its events is lost, or one of them is cancelled; what
// fn returns about such an event changes nothing. An event that is cancelled before fn is called is in no batch. Middleware wraps each event, from before it
// joins a batch until its outcome is known, so that what decides about one event,
// as the Retry and the Poison of package middleware do, decides about one.
//
// Events of one [Key] are never in one batch: where all have the same, each is a batch,
// and waits for all of [Linger].
//
// When an [EndEvent] stops the router, half a batch is handled at once. When its
// context ends, or the topic is paused, the events are released.
//
// The options are those of [Handle], [Size] and [Linger]. HandleBatch panics where Handle does.
func HandleBatch[E any](r *Router, fn func(ctx context.Context, events []E) error, opts ...BatchOption) {
	name := EventName[E]()
	if fn == nil {
		panic("ezq: HandleBatch: the handler of " + name + " is nil: pass a function")
	}
	if isControl(name) {
		panic("ezq: HandleBatch: " + name + " stops the router and is in no batch: use Handle")
	}
	rt := newRoute(name)
	for _, option := range opts {
		option.applyToBatch(rt)
	}
	c := &collector[E]{fn: fn, size: 100, linger: time.Second, limit: rt.limit}
	if rt.size > 0 {
		c.size = rt.size
	}
	if rt.lingers {
		c.linger = rt.linger
	}
	rt.limit, rt.size = nil, c.size
	rt.call = func(msg *message.Message) ([]*message.Message, error) {
		event, err := decode[E](name, msg.Payload)
		if err != nil {
			return nil, Permanent(err)
		}
		m := &member[E]{event: event, msg: msg, inv: invocationFrom(msg.Context())}
		if !c.handle(m) {
			backend.Release(msg)
			return nil, nil
		}
		return nil, m.err
	}
	r.add("HandleBatch", rt)
}

// Size is the number of events of a full batch. Defaults to 100. It panics if n is
// not positive.
func Size(n int) BatchOption {
	if n <= 0 {
		panic(fmt.Sprintf("ezq: Size: %d is not positive: leave it out for the default of 100", n))
	}
	return batchOption(func(rt *route) { rt.size = n })
}

// Linger is how long a batch waits for more events after its first one. If d is 0, it
// does not wait. Defaults to 1 second. It panics if d is negative.
func Linger(d time.Duration) BatchOption {
	if d < 0 {
		panic(fmt.Sprintf("ezq: Linger: %v is negative: use 0 not to wait, or leave it out for the default of 1s", d))
	}
	return batchOption(func(rt *route) { rt.linger, rt.lingers = d, true })
}

type batchOption func(*route)

func (f batchOption) applyToBatch(rt *route) { f(rt) }

// BatchError fails some events of a batch, and no others. Its keys are their
// places in the batch, from 0; each may be [Permanent], a [RetryAfter] or a [Snooze].
// An empty one fails none:
//
//	failed := ezq.BatchError{}
//	for i, e := range events {
//		if err := charge(ctx, e); err != nil {
//			failed[i] = err
//		}
//	}
//	return failed
//
// It is found in wrapped errors, and errors.Join makes one of several. A place that
// the batch does not have is a mistake that fails all of it.
type BatchError map[int]error

func (e BatchError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "ezq: %d of the batch failed", len(e))
	for _, i := range slices.Sorted(maps.Keys(e)) {
		fmt.Fprintf(&text, "; event %d: %v", i, e[i])
	}
	return text.String()
}

// Unwrap returns the errors of the events in their order.
func (e BatchError) Unwrap() []error {
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(e)) {
		if e[i] != nil {
			errs = append(errs, e[i])
		}
	}
	return errs
}

// errorsOfEvents returns what err means for each of n events.
func errorsOfEvents(n int, err error) []error {
	all := make([]error, n)
	if err == nil {
		return all
	}
	invalid, single := assign(all, err, func(err error) error { return err })
	if single && invalid == nil {
		return all
	}
	for i := range all {
		all[i] = err
		if invalid != nil {
			all[i] = invalid
		}
	}
	return all
}

// assign stores in all what err says about single events. single is false if it says
// nothing about single ones. wrap makes what stands around a [BatchError], such as
// [Permanent], hold for each of its errors. invalid names an event that there is not.
func assign(all []error, err error, wrap func(error) error) (invalid error, single bool) {
	switch e := err.(type) { //nolint:errorlint // it is the tree that is walked here
	case BatchError:
		for i, failure := range e {
			if i < 0 || i >= len(all) {
				return fmt.Errorf("ezq: a BatchError names event %d of a batch of %d, so all of them fail: %w", i, len(all), err), true
			}
			if failure != nil {
				all[i] = wrap(failure)
			}
		}
		return nil, true
	case *permanentError:
		return assign(all, e.error, func(err error) error { return wrap(Permanent(err)) })
	case *retryAfterError:
		return assign(all, e.error, func(err error) error { return wrap(RetryAfter(e.delay, err)) })
	case interface{ Unwrap() []error }:
		for _, joined := range e.Unwrap() {
			if invalid, single = assign(all, joined, wrap); invalid != nil || !single {
				return invalid, single
			}
		}
		return nil, single
	case interface{ Unwrap() error }:
		return assign(all, e.Unwrap(), wrap)
	}
	return nil, false
}

// stragglerWait is how long a batch that is not full waits, once fetching has ended,
// for events that were fetched before that and are on their way to it.
const stragglerWait = 10 * time.Millisecond

// collector makes batches of the events of one handler.
//
// Each event has a goroutine of its own, in which its middleware runs. The first
// one of a batch leads it: it waits until the batch has lingered long enough. The
// one that fills it runs it. All others have given up their slots and wait.
type collector[E any] struct {
	fn     func(ctx context.Context, events []E) error
	size   int
	linger time.Duration
	limit  chan struct{} // holds a token for each batch being handled; nil: no limit

	mu   sync.Mutex
	open *batch[E] // the batch that events join
}

type batch[E any] struct {
	members []*member[E]
	sealed  chan struct{} // closed when no more events join
	done    chan struct{} // closed when the outcomes are known
}

// member is an event in a batch.
type member[E any] struct {
	inv     *invocation
	event   E
	msg     *message.Message
	decided bool  // fn was called with it, or it has expired
	err     error // what came of that
}

// handle puts m into a batch and waits for its outcome. It returns false if there
// was none, and the event is to be released.
func (c *collector[E]) handle(m *member[E]) bool {
	if m.inv.slot == slotNone && !m.inv.reacquireSlot() { // it is tried again, and gave its slot up before
		return false
	}
	b, first, full := c.join(m)
	switch {
	case full:
		c.run(b, m.inv)
	case first && c.lead(b, m):
		c.run(b, m.inv)
	case !first:
		m.inv.yieldSlot()
	}
	<-b.done
	return m.decided
}

func (c *collector[E]) join(m *member[E]) (b *batch[E], first, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = &batch[E]{sealed: make(chan struct{}), done: make(chan struct{})}
	}
	b = c.open
	b.members = append(b.members, m)
	if len(b.members) == c.size {
		c.open = nil
		close(b.sealed)
		return b, false, true
	}
	return b, len(b.members) == 1, false
}

// seal ends the joining of b. It returns false if it had ended.
func (c *collector[E]) seal(b *batch[E]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != b {
		return false
	}
	c.open = nil
	close(b.sealed)
	return true
}

// lead waits until b is to be handled although it is not full, and returns true
// then, with a slot. It returns false if another member handles b, or none will.
func (c *collector[E]) lead(b *batch[E], m *member[E]) bool {
	m.inv.yieldSlot()
	life, slots := m.inv.delivery.consumer.life, m.inv.delivery.topic.slots
	until := interrupts{life.starting.Done(), b.sealed}
	if until.wait(c.linger, life.fetching.Done()) && (life.fetching.Err() == nil || until.wait(stragglerWait, nil)) &&
		slots.reacquire(life.starting.Done(), b.sealed) {
		m.inv.ownSlot()
		if c.seal(b) {
			return true
		}
		m.inv.yieldSlot()
	}
	if life.starting.Err() != nil && c.seal(b) {
		close(b.done) // fn is not called
	}
	return false
}

// run handles b, which is sealed, on the slot of inv.
func (c *collector[E]) run(b *batch[E], inv *invocation) {
	defer close(b.done)
	if c.limit != nil {
		if !inv.awaitLimit(c.limit, len(b.members)) {
			return
		}
		defer func() { <-c.limit }()
	}
	var live []*member[E]
	var events []E
	common := &invocation{delivery: inv.delivery, logger: inv.logger, meta: Meta{Event: inv.meta.Event, Topic: inv.meta.Topic, Handler: inv.meta.Handler}}
	for _, m := range b.members {
		if interrupted(m.msg.Context()) {
			continue // another consumer may have it by now
		}
		m.decided = true
		if err := expired(m.msg.Metadata); err != nil { // while the batch waited
			m.err = m.inv.expire(err)
			continue
		}
		live, events, common.batch = append(live, m), append(events, m.event), append(common.batch, m.inv)
	}
	if len(live) == 0 {
		return
	}
	err := errGoexit
	defer func() {
		for i, failure := range errorsOfEvents(len(live), err) {
			live[i].err = failure
		}
	}()
	err = c.call(context.WithValue(inv.delivery.consumer.life.working, invocationKey{}, common), events)
}

func (c *collector[E]) call(ctx context.Context, events []E) (err error) {
	defer recoverError(&err)
	return c.fn(ctx, events)
}
