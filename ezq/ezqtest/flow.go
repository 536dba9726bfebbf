package ezqtest

import (
	"cmp"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// Flow is a running router whose events a test can inspect. Its methods may be called from
// the goroutine of the test only.
type Flow struct {
	tb      testing.TB
	ctx     context.Context //nolint:containedctx // that of the test
	backend *recordingBackend
	timeout time.Duration
	stopped chan struct{} // closed when a router has stopped
	once    sync.Once     // closes it
}

// Run calls body while the router that build returns runs on a [memory.Broker], in a
// bubble of testing/synctest: time passes only while everything waits, and then at
// once. build gets the Broker, for the handlers to publish with. Run stops the router when
// body returns, and fails the test if the router returns an error.
//
// The Broker that build gets is one that the flow watches. It can do what a Broker can, with interfaces as
// [backend.Canceller], [backend.Pauser] and [backend.DeadLetterStore], and the flow knows afterwards what waits. The
// events of a topic that is paused are not waited for.
//
// In a bubble nothing may wait for anything outside of it, such as a server, and body
// cannot call t.Run or t.Parallel.
func Run(t *testing.T, build func(client backend.Backend) *ezq.Router, body func(f *Flow)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 24 * time.Hour // in virtual time
		run(t, memory.New(nil), timeout, build, body)
	})
}

// RunOn is [Run] on another backend and in real time. It does not close the backend.
// [Flow.AwaitIdle] fails the test after 30 seconds. [Flow.Advance] waits in real time, unless
// the backend has a method Forward(context.Context, time.Duration) error that lets time
// pass for its messages, as that of backend/pgmq/pgmqtest does, though not for pauses. A pause holds once the consumers
// have heard of it, which the Stats of a pgmq.Client tell. No other test may use the topics of the router. A client that can do some of what backends may do besides, and not all, returns
// errors that match [errors.ErrUnsupported] for the rest.
func RunOn(t *testing.T, on backend.Backend, build func(client backend.Backend) *ezq.Router, body func(f *Flow)) {
	t.Helper()
	run(t, on, 30*time.Second, build, body)
}

func run(tb testing.TB, on backend.Backend, timeout time.Duration, build func(backend.Backend) *ezq.Router, body func(*Flow)) {
	tb.Helper()
	ctx, stop := context.WithCancel(tb.Context())
	f := &Flow{
		tb: tb, ctx: ctx, timeout: timeout, backend: newRecordingBackend(on), stopped: make(chan struct{}),
	}
	routers := append([]*ezq.Router{build(f.backend.client())}, f.backend.start()...)
	ended := make(chan error, len(routers))
	for _, router := range routers {
		router.Use(f.backend.watch)
		go func() {
			err := router.Run(ctx)
			f.once.Do(func() { close(f.stopped) })
			ended <- err
		}()
	}
	defer func() {
		stop()
		for range routers {
			if err := <-ended; err != nil {
				tb.Errorf("ezqtest: the router stopped with: %v", err)
			}
		}
	}()
	for _, router := range routers {
		f.awaitStart(router)
	}
	body(f)
}

// awaitStart returns when the router is subscribed, or one has stopped already.
func (f *Flow) awaitStart(router *ezq.Router) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for router.Ready() != nil {
		select {
		case <-again.C:
		case <-f.stopped:
			return
		}
	}
}

// Context returns the context of the flow, for calls that the test makes itself. It ends
// when body returns. In [Run] it belongs to the bubble; the context of the test around the
// bubble does not.
func (f *Flow) Context() context.Context { return f.ctx }

// Publish publishes an event as [ezq.Publish] does. If that fails, so does the test.
func (f *Flow) Publish(event any, opts ...ezq.PublishOption) {
	f.tb.Helper()
	if err := ezq.Publish(f.ctx, f.backend, event, opts...); err != nil {
		f.tb.Fatal("ezqtest:", err)
	}
}

// Redrive publishes a dead letter to the topic that it came from, as a redrive brings it back: with its ID, its payload and its own
// metadata, with no failures, and without the time of [ezq.Expires]. One that came by a pattern is published to the topic of its
// event. If a flow has several groups, each gets it. So what has failed in production is handled by the router of the flow. If the
// dead letter cannot be read, or names no topic that the router subscribes to, the test fails.
func (f *Flow) Redrive(d backend.FoundDeadLetter) {
	f.tb.Helper()
	switch {
	case d.Err != nil:
		f.tb.Fatalf("ezqtest: the dead letter cannot be read: %v", d.Err)
	case d.Topic == "":
		f.tb.Fatalf("ezqtest: the dead letter names no topic that it came from")
	case !f.backend.isSubscribed(d.Topic):
		f.tb.Fatalf("ezqtest: the dead letter came from the topic %q, to which the router does not subscribe", d.Topic)
	}
	msg := message.NewMessageWithContext(f.ctx, d.ID, message.Payload(d.Payload))
	for name, value := range d.Metadata {
		msg.Metadata.Set(name, value)
	}
	delete(msg.Metadata, backend.ExpiresAt)
	if err := f.backend.Publish(cmp.Or(d.PublishedTo, d.Topic), msg); err != nil {
		f.tb.Fatalf("ezqtest: %v", err)
	}
}

// AwaitIdle returns when the router has nothing to do: all events that could be handled have
// been handled, and so have the events that were published meanwhile. Other events wait for
// their delay or for a retry: see [Flow.Advance]. If the router, or one of several, has stopped, AwaitIdle returns
// at once.
//
// Messages that were not published with the backend of the flow, but in a transaction for
// example, are included if the backend has a method
//
//	Messages(context.Context, func(topic string, msg *message.Message, deliveries int, wait time.Duration)) error
//
// that lists its stored messages, as that of backend/pgmq/pgmqtest does. AwaitIdle sees all
// messages that were committed before the call, and may see later ones.
//
// AwaitIdle fails the test if it takes longer than a day of virtual time.
func (f *Flow) AwaitIdle() {
	f.tb.Helper()
	timeout := time.NewTimer(f.timeout)
	defer timeout.Stop()
	for {
		busy, changed := f.backend.busy()
		var again <-chan time.Time
		if busy == "" {
			if !f.discover() {
				if busy, _ = f.backend.busy(); busy == "" {
					return
				}
				continue
			}
			busy, again = "a message is on its way from the backend", time.After(pollInterval)
		}
		select {
		case <-changed:
		case <-again:
		case <-f.stopped:
			return
		case <-timeout.C:
			f.tb.Fatalf("ezqtest: still busy after %v: %s%s", f.timeout, busy, f.backend.history())
		}
	}
}

// Advance lets d pass, with all deliveries that are due in it, and then waits as
// [Flow.AwaitIdle] does.
func (f *Flow) Advance(d time.Duration) {
	f.tb.Helper()
	if on, ok := f.backend.Backend.(forwarder); ok {
		f.forward(on, d)
		return
	}
	passed := time.NewTimer(d)
	defer passed.Stop()
	<-passed.C
	f.AwaitIdle()
}

// forward goes from one message that becomes visible to the next, since what follows
// from it may be due before the end.
func (f *Flow) forward(on forwarder, d time.Duration) {
	f.tb.Helper()
	f.AwaitIdle()
	for end := false; !end; {
		step := f.backend.untilNext()
		if end = step >= d; end {
			step = d
		}
		if err := on.Forward(f.ctx, step); err != nil {
			f.tb.Fatal("ezqtest:", err)
		}
		f.backend.forward(step)
		d -= step
		f.AwaitIdle()
	}
}

// Duplicate repeats the next n deliveries: their handlers run to the end, and their
// outcomes are lost, as if the process were killed right after its work.
func (f *Flow) Duplicate(n int) { f.backend.scheduleFaults(duplicate, n) }

// Crash ends the handlers of the next n deliveries in the middle of their work: right
// after they have published an event, or else at their end. It calls [runtime.Goexit] in
// the handler.
func (f *Flow) Crash(n int) { f.backend.scheduleFaults(crash, n) }

// LoseLease takes away the leases of the next n deliveries when their handlers begin: their
// contexts end with the cause [ezq.ErrLeaseLost], and the events are delivered again.
func (f *Flow) LoseLease(n int) { f.backend.scheduleFaults(lease, n) }

// publishTo publishes event on the only topic, unless it names another.
func (f *Flow) publishTo(topics []string, event any) {
	f.tb.Helper()
	var opts []ezq.PublishOption
	if len(topics) == 1 {
		opts = append(opts, ezq.Topic(topics[0]))
	}
	if with, ok := event.(eventWith); ok {
		event, opts = with.event, append(opts, with.opts...)
	}
	f.Publish(event, opts...)
}

// discover records messages that were not published with the backend of the flow, but in a
// transaction for example. It reports whether one of them is on its way to the router.
func (f *Flow) discover() (underWay bool) {
	f.tb.Helper()
	on, ok := f.backend.Backend.(lister)
	if !ok {
		return false
	}
	err := on.Messages(f.ctx, func(topic string, msg *message.Message, deliveries int, wait time.Duration) {
		underWay = f.backend.discover(topic, msg, deliveries, wait) || underWay
	})
	if err != nil {
		f.tb.Fatal("ezqtest:", err)
	}
	return underWay
}

// forwarder is a backend that can let time pass for its messages.
type forwarder interface {
	Forward(ctx context.Context, d time.Duration) error
}

// lister is a backend that can tell what is stored in it, whichever way it came there.
type lister interface {
	// Messages calls each with every message in the database: the topic that it is on,
	// how often it has been delivered, and how long until it is visible.
	Messages(ctx context.Context, each func(topic string, msg *message.Message, deliveries int, wait time.Duration)) error
}

// pollInterval is how often a backend is asked while a message is on its way from there.
const pollInterval = 5 * time.Millisecond
