package ezq

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// HandleBatch makes fn the handler of events of type E, several at a time. A batch
// is handled when it has as many events as [Size] says, and otherwise when [Linger]
// has passed since its first one came. fn is called concurrently; each batch counts
// as one event against Config.Concurrency and [Concurrency], and what it collects
// counts as none.
//
// If fn returns nil, all events are done. If it returns a [BatchError], those fail
// that it names and no others. With any other error, or a panic, all fail. An event
// that cannot be decoded fails on its own and is in no batch.
//
// [MetasFromContext] tells about the events. The context of a batch ends with the cause
// [ErrInterrupted], not when the lease of one of its events is lost; what fn says
// about such an event changes nothing. Middleware wraps each event, from before it
// joins a batch until its outcome is known, so that what decides about one event,
// as Retry and Poison do, decides about one. Events of one [Key] are never in one
// batch: where all have the same, each is a batch, and waits for all of [Linger].
//
// When an [EndEvent] stops the router, half a batch is handled at once. When its
// context ends, or the topic is paused, the events go back.
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
		m := &member[E]{event: event, ctx: msg.Context(), handling: handlingFrom(msg.Context())}
		if !c.handle(m) {
			backend.Release(msg)
			return nil, nil
		}
		return nil, m.err
	}
	r.add("HandleBatch", rt)
}

// Size is how many events make a batch full. Defaults to 100. It panics if n is
// not positive.
func Size(n int) BatchOption {
	if n <= 0 {
		panic(fmt.Sprintf("ezq: Size: %d is not positive: leave it out for the default of 100", n))
	}
	return batchOption(func(rt *route) { rt.size = n })
}

// Linger is how long a batch waits for more events after its first one. With 0 it
// does not wait. Defaults to 1 second. It panics if d is negative.
func Linger(d time.Duration) BatchOption {
	if d < 0 {
		panic(fmt.Sprintf("ezq: Linger: %v is negative: use 0 not to wait, or leave it out for the default of 1s", d))
	}
	return batchOption(func(rt *route) { rt.linger, rt.lingers = d, true })
}

type batchOption func(*route)

func (f batchOption) applyToBatch(rt *route) { f(rt) }
