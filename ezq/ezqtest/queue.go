package ezqtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
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
	tick := backend.TickFrom(msgs[0].Context())
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

func nameOf(msg *message.Message) string { return ezq.Marshaler{}.NameFromMessage(msg) }
