package ezqtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// queue is a backend that notes what passes through it.
type queue struct {
	backend.Backend

	mu         sync.Mutex
	changed    chan struct{}   // closed, and replaced, with each change
	subscribed map[string]bool // topics that somebody receives
	waiting    []*waiting
	known      map[place]bool // what has been seen so far
	records    []record
	faults     []fault // for the deliveries to come
	begun      int     // deliveries
	called     int     // handlers that have returned
}

// waiting is a message that is in the queue: it may be delivered from visible on, or
// is being handled.
type waiting struct {
	topic, id, event string
	visible          time.Time
	handled          bool
}

// place is where a message is.
type place struct{ topic, id string }

func newQueue(on backend.Backend) *queue {
	return &queue{Backend: on, changed: make(chan struct{}), subscribed: map[string]bool{}, known: map[place]bool{}}
}

// wait notes that a message is in the queue.
func (q *queue) wait(topic string, msg *message.Message, visible time.Time) *waiting {
	w := &waiting{topic, msg.UUID, nameOf(msg), visible, false}
	q.waiting = append(q.waiting, w)
	q.known[place{topic, msg.UUID}] = true
	return w
}

// Publish implements [message.Publisher].
func (q *queue) Publish(topic string, msgs ...*message.Message) error {
	visible := make([]time.Time, len(msgs))
	for i, msg := range msgs {
		delay, at, err := backend.DelayOf(msg)
		if err != nil {
			return err
		}
		visible[i] = time.Now().Add(delay)
		if !at.IsZero() {
			visible[i] = at
		}
	}
	q.change(func() { // before a consumer can see them
		for i, msg := range msgs {
			q.wait(topic, msg, visible[i])
		}
	})
	if err := q.Backend.Publish(topic, msgs...); err != nil || !isStored(msgs) {
		q.change(func() {
			for _, msg := range msgs {
				q.forget(topic, msg.UUID)
			}
		})
		return err
	}
	q.change(func() {
		for _, msg := range msgs {
			q.note(published, topic, msg, "")
		}
	})
	if len(msgs) > 0 {
		dieIfTold(msgs[0].Context())
	}
	return nil
}

// isStored reports whether a publish without an error has stored anything: one for a
// tick that is not due, or that is taken, has not.
func isStored(msgs []*message.Message) bool {
	if len(msgs) == 0 {
		return true
	}
	tick := backend.ScheduleTickFromContext(msgs[0].Context())
	if tick == nil {
		return true
	}
	result, _ := tick.Result()
	return result.Outcome == backend.TickPublished
}

// dieIfTold ends the handler of ctx, as the end of its process would, if its
// delivery shall crash.
func dieIfTold(ctx context.Context) {
	if d := deliveryFrom(ctx); d != nil && d.fault.Load() == int32(crash) {
		runtime.Goexit()
	}
}

// Subscribe implements [message.Subscriber].
func (q *queue) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	from, err := q.Backend.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	q.change(func() { q.subscribed[topic] = true })
	to := make(chan *message.Message)
	go func() {
		defer close(to)
		for msg := range from {
			to <- q.deliver(topic, msg)
		}
	}()
	return to, nil
}

// busy returns what there is to do now, or "", and what is closed when that changes.
func (q *queue) busy() (what string, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, w := range q.waiting {
		switch {
		case w.handled:
			return fmt.Sprintf("%s on topic %q is being handled", w.event, w.topic), q.changed
		case !w.visible.After(now) && q.subscribed[w.topic]:
			return fmt.Sprintf("%s on topic %q waits to be handled", w.event, w.topic), q.changed
		}
	}
	return "", q.changed
}

func (q *queue) change(what func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	what()
	close(q.changed)
	q.changed = make(chan struct{})
}

// take marks a message as being handled, one that came from elsewhere too.
func (q *queue) take(topic string, msg *message.Message) (w *waiting) {
	for _, w = range q.waiting {
		if w.topic == topic && w.id == msg.UUID && !w.handled {
			w.handled = true
			return w
		}
	}
	if !q.known[place{topic, msg.UUID}] {
		q.note(published, topic, msg, "")
	}
	w = q.wait(topic, msg, time.Time{})
	w.handled = true
	return w
}

func (q *queue) forget(topic, id string) {
	for i, w := range q.waiting {
		if w.topic == topic && w.id == id {
			delete(q.known, place{topic, id})
			q.waiting = slices.Delete(q.waiting, i, i+1)
			return
		}
	}
}

// untilNext is how long the next message has to wait, or very long if none has.
func (q *queue) untilNext() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := time.Duration(1<<63 - 1)
	for _, w := range q.waiting {
		if wait := time.Until(w.visible); wait > 0 && q.subscribed[w.topic] {
			next = min(next, wait)
		}
	}
	return next
}

// forward notes that d has passed for what waits.
func (q *queue) forward(d time.Duration) {
	q.change(func() {
		for _, w := range q.waiting {
			w.visible = w.visible.Add(-d)
		}
	})
}

// deliver returns the message that the router gets in place of msg. What becomes of
// it is passed on, unless a fault says otherwise.
func (q *queue) deliver(topic string, msg *message.Message) *message.Message {
	ctx, expire := context.WithCancelCause(msg.Context())
	d := &delivery{expire: expire}
	ctx = context.WithValue(ctx, deliveryKey{}, d)
	if facts := backend.DeliveryFromContext(ctx); facts != nil {
		d.facts = facts.Copy()
		ctx = backend.WithDelivery(ctx, d.facts)
	}
	handed := msg.Copy()
	handed.SetContext(ctx)
	var w *waiting
	q.change(func() { w = q.take(topic, msg) })
	go func() {
		defer expire(nil)
		acked := false
		select {
		case <-handed.Acked():
			acked = true
		case <-handed.Nacked():
		}
		d.noting.Wait() // an interrupted handler's event goes back before that is noted
		q.settle(d, w, msg, acked)
	}()
	return handed
}

// settle tells the backend what became of a delivery, after it has been noted: the
// message may come again at once.
func (q *queue) settle(d *delivery, w *waiting, msg *message.Message, acked bool) {
	var verdict backend.Disposition
	said := false
	if d.facts != nil {
		verdict, said = d.facts.Disposition()
	}
	switch {
	case d.committed():
		q.change(func() { q.remove(w) })
		msg.Ack()
	case fault(d.fault.Load()) != none: // the outcome is lost
		q.change(func() { w.handled, w.visible = false, time.Time{} })
		backend.Nack(msg, unchanged(msg.Context()))
	case acked:
		q.change(func() { q.remove(w) })
		msg.Ack()
	case verdict.Letter != nil:
		q.change(func() {
			q.note(deadLettered, verdict.Letter.Topic, msg, verdict.Letter.Metadata[backend.DeadLetterReason])
			w.topic, w.handled, w.visible = verdict.Letter.Topic, false, time.Time{}
			q.known[place{w.topic, w.id}] = true
		})
		backend.DeadLetter(msg, *verdict.Letter)
	case said:
		q.change(func() { w.handled, w.visible = false, time.Now().Add(verdict.Delay) })
		backend.Nack(msg, verdict.Redelivery)
	default:
		q.change(func() { w.handled, w.visible = false, time.Time{} })
		msg.Nack()
	}
}

func (q *queue) remove(w *waiting) {
	q.waiting = slices.DeleteFunc(q.waiting, func(other *waiting) bool { return other == w })
}

// watch is middleware that notes what handlers do, and lets them meet their faults.
func (q *queue) watch(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (out []*message.Message, err error) {
		d, meta := deliveryFrom(msg.Context()), ezq.MetaFromContext(msg.Context())
		if d != nil {
			if _, left := d.left.LoadAndDelete(meta.Handler); left {
				return next(msg) // the router tells its middleware how it ended; that is noted
			}
			q.strike(d)
		}
		returned, unknown := false, false
		what, reason := failed, "the handler did not return"
		if d != nil {
			d.noting.Add(1)
		}
		defer func() { // deferred for panics and runtime.Goexit
			if d != nil && !returned {
				d.left.Store(meta.Handler, true)
			}
			q.change(func() {
				q.note(what, meta.Topic, msg, reason)
				if !unknown {
					q.called++
				}
			})
			if d != nil {
				d.noting.Done()
			}
		}()
		out, err = next(msg)
		returned = true
		unknown = errors.As(err, new(*ezq.UnknownEventError))
		what, reason = fate(msg, err)
		return out, err
	}
}

// strike gives the delivery its fault, if one is due.
func (q *queue) strike(d *delivery) {
	if !d.begun.CompareAndSwap(false, true) { // one of several handlers
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun++
	if len(q.faults) == 0 {
		return
	}
	d.fault.Store(int32(q.faults[0]))
	if q.faults[0] == lease {
		d.expire(backend.ErrLeaseLost)
	}
	q.faults = q.faults[1:]
}

func (q *queue) note(what, topic string, msg *message.Message, reason string) {
	q.records = append(q.records, record{what, nameOf(msg), topic, msg.Payload, reason})
}

// history is all that has happened, for the end of a message.
func (q *queue) history() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.records) == 0 {
		return "\nNothing has happened: was anything published?"
	}
	var out strings.Builder
	out.WriteString("\nThis has happened:")
	for _, r := range q.records {
		fmt.Fprintf(&out, "\n\t%-13s %s on topic %q", r.what, r.payload, r.topic)
		if r.reason != "" {
			fmt.Fprintf(&out, ": %s", r.reason)
		}
	}
	for _, w := range q.waiting {
		fmt.Fprintf(&out, "\n\t%-13s %s on topic %q", "waits", w.event, w.topic)
		if !q.subscribed[w.topic] {
			out.WriteString(", on which the router has no handlers")
		}
	}
	return out.String()
}

func (q *queue) expect(what fault, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.faults = append(q.faults, slices.Repeat([]fault{what}, n)...)
}

func (q *queue) handlersCalled() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.called
}

func (q *queue) discover(topic string, msg *message.Message, deliveries int, wait time.Duration) (underWay bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.known[place{topic, msg.UUID}]:
		return false
	case q.subscribed[topic] && (wait <= 0 || deliveries > 0):
		return true // it is noted when it comes
	}
	q.note(published, topic, msg, "")
	q.wait(topic, msg, time.Now().Add(wait))
	return false
}

func nameOf(msg *message.Message) string { return ezq.Marshaler{}.NameFromMessage(msg) }

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

// lookAround is how often a backend is asked while a message is on its way from there.
const lookAround = 5 * time.Millisecond
