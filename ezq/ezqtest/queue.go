package ezqtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/deliverycopy"
)

// recordingBackend is a backend that records the messages that pass through it. Those of the groups of a flow record to
// the same recorder.
type recordingBackend struct {
	backend.Backend
	*recorder
	group string // of its consumers
}

func newRecordingBackend(on backend.Backend) *recordingBackend {
	return &recordingBackend{Backend: on, recorder: newRecorder()}
}

// client returns the backend as the program gets it.
func (b *recordingBackend) client() backend.Backend {
	if isSteerable(b.Backend) {
		return steered{b}
	}
	return b
}

// inGroup returns a backend whose consumers have that group, which records to the same recorder.
func (b *recordingBackend) inGroup(group string) (*recordingBackend, error) {
	var on backend.Backend
	switch from := b.Backend.(type) {
	case *memory.Broker:
		on = from.Connect(&memory.Config{Group: group})
	case grouper:
		other, err := from.InGroup(group)
		if err != nil {
			return nil, fmt.Errorf("ezqtest: the group %q: %w", group, err)
		}
		on = other
	default:
		return nil, fmt.Errorf("ezqtest: the group %q: %T has no method InGroup(group string) (backend.Backend, error): %w", group, from, errors.ErrUnsupported)
	}
	b.update(func() { b.groups[group] = true })
	return &recordingBackend{Backend: on, recorder: b.recorder, group: group}, nil
}

// grouper is a backend that can return another one, on the same messages, whose consumers have a group.
type grouper interface {
	InGroup(group string) (backend.Backend, error)
}

// queueName returns what the Queue of a [backend.Found] is in a place; ok is false if that is not known.
func (b *recordingBackend) queueName(p place) (name string, ok bool) {
	switch on := b.Backend.(type) {
	case *memory.Broker:
		return memory.GroupQueue(p.topic, p.group), true
	case interface {
		GroupQueue(topic, group string) string
	}:
		return on.GroupQueue(p.topic, p.group), true
	}
	return "", false
}

// liesIn reports whether a message that was found lies in a place.
func (b *recordingBackend) liesIn(p place, f backend.Found) bool {
	if name, ok := b.queueName(p); ok {
		return f.Queue == name
	}
	return (f.Place == backend.InGroup) == (p.group != "")
}

// Publish implements [message.Publisher].
func (b *recordingBackend) Publish(topic string, msgs ...*message.Message) error {
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
	var at int // in the history: a handler may be done with them before Publish returns
	waiting := make([][]*waitingMessage, len(msgs))
	b.update(func() { // before a consumer can see them
		at = len(b.records)
		for i, msg := range msgs {
			for _, p := range b.placesOf(topic) {
				waiting[i] = append(waiting[i], b.addWaiting(p, topic, msg, visible[i]))
			}
		}
	})
	err := b.Backend.Publish(topic, msgs...)
	stored := err == nil && isStored(msgs)
	b.update(func() {
		for i, msg := range msgs {
			if !stored || !b.settleCondition(waiting[i], msg) {
				for _, w := range waiting[i] {
					b.forget(w)
				}
				continue
			}
			b.records = slices.Insert(b.records, at, newRecord(published, place{topic: topic}, msg, ""))
			at++
		}
	})
	if !stored {
		return err
	}
	b.lookAtKeys(topic, msgs)
	if len(msgs) > 0 {
		crashIfInjected(msgs[0].Context())
	}
	return nil
}

// lookAtKeys asks the backend what became of messages with a unique key: each group has keys of its own, and what is
// reported is of all of them.
func (b *recordingBackend) lookAtKeys(topic string, msgs []*message.Message) {
	if len(msgs) != 1 {
		return
	}
	condition := backend.PublishConditionFromContext(msgs[0].Context())
	if condition == nil || condition.UniqueKey == "" || !b.isInSeveral(topic) {
		return
	}
	steered{b}.look(msgs[0].Context(), topic, b.idsOfKey(topic, condition.UniqueKey))
}

// isStored reports whether a publish without an error has stored anything: one for a
// tick that is not due, or that is taken, has not.
func isStored(msgs []*message.Message) bool {
	if len(msgs) == 0 {
		return true
	}
	result, _ := backend.ScheduleTickFromContext(msgs[0].Context()).Result()
	return result.Outcome == backend.TickPublished
}

// Subscribe implements [message.Subscriber].
func (b *recordingBackend) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	from, err := b.Backend.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	p := place{topic, b.group}
	b.update(func() { b.subscribe(p) })
	to := make(chan *message.Message)
	go func() {
		defer close(to)
		for msg := range from {
			to <- b.deliver(p, msg)
		}
	}()
	return to, nil
}

// deliver returns the message that the router gets in place of msg. Its outcome is
// passed on, unless a fault says otherwise.
func (b *recordingBackend) deliver(p place, msg *message.Message) *message.Message {
	ctx, expire := context.WithCancelCause(msg.Context())
	d := &delivery{expire: expire, group: p.group}
	ctx = context.WithValue(ctx, deliveryKey{}, d)
	if facts := backend.DeliveryFromContext(ctx); facts != nil {
		d.info = deliverycopy.Of(facts)
		ctx = backend.WithDelivery(ctx, d.info)
	}
	handed := msg.Copy()
	handed.SetContext(ctx)
	var w *waitingMessage
	b.update(func() { w = b.startHandling(p, msg) })
	go func() {
		defer expire(nil)
		acked := false
		select {
		case <-handed.Acked():
			acked = true
		case <-handed.Nacked():
		}
		d.recording.Wait() // an interrupted handler's event goes back before that is noted
		b.settle(d, w, msg, acked)
	}()
	return handed
}

// watch is middleware that notes what handlers do, and lets them meet their faults.
func (b *recordingBackend) watch(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (out []*message.Message, err error) {
		d, meta := deliveryFrom(msg.Context()), ezq.MetaFromContext(msg.Context())
		if d != nil {
			if _, left := d.unreturned.LoadAndDelete(meta.Handler); left {
				return next(msg) // the router tells its middleware how it ended; that is noted
			}
			b.injectFault(d)
		}
		returned, unknown := false, false
		at := place{topic: meta.Topic}
		what, reason := failed, "the handler did not return"
		if d != nil {
			at.group = d.group
			d.recording.Add(1)
		}
		defer func() { // deferred for panics and runtime.Goexit
			if d != nil && !returned {
				d.unreturned.Store(meta.Handler, true)
			}
			b.update(func() {
				b.addRecord(what, at, msg, reason)
				if !unknown {
					b.called++
				}
			})
			if d != nil {
				d.recording.Done()
			}
		}()
		out, err = next(msg)
		returned = true
		unknown = errors.As(err, new(*ezq.UnknownEventError))
		what, reason = outcomeOf(msg, err)
		return out, err
	}
}
