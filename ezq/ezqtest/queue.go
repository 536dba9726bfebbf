package ezqtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/deliverycopy"
)

// recordingBackend is a backend that records the messages that pass through it.
type recordingBackend struct {
	backend.Backend

	mu         sync.Mutex
	changed    chan struct{}   // closed, and replaced, with each change
	subscribed map[string]bool // topics with a subscription
	waiting    []*waitingMessage
	paused     map[string]backend.Paused // by their topics
	known      map[messageKey]bool       // what has been seen so far
	deliveries map[messageKey]int        // how many have begun or ended
	records    []record
	faults     []fault // for the deliveries to come
	begun      int     // deliveries
	called     int     // handlers that have returned
}

// waitingMessage is a message that is in the queue: it may be delivered from visible on, or
// is being handled.
type waitingMessage struct {
	topic, id, event string
	first            time.Time // when it was published, or the first of those that it has replaced
	visible          time.Time
	handled          bool
	gone             bool // it was cancelled while it was being handled
}

// messageKey is where a message is.
type messageKey struct{ topic, id string }

func newRecordingBackend(on backend.Backend) *recordingBackend {
	return &recordingBackend{
		Backend: on, changed: make(chan struct{}), subscribed: map[string]bool{}, paused: map[string]backend.Paused{}, known: map[messageKey]bool{},
		deliveries: map[messageKey]int{},
	}
}

// client returns the backend as the program gets it.
func (b *recordingBackend) client() backend.Backend {
	if isSteerable(b.Backend) {
		return steered{b}
	}
	return b
}

// topicsOf returns a topic, and all others where a message with the ID waits or is handled.
func (b *recordingBackend) topicsOf(id, topic string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	topics := []string{topic}
	for _, w := range b.waiting {
		if w.id == id && !slices.Contains(topics, w.topic) {
			topics = append(topics, w.topic)
		}
	}
	return topics
}

// deliveriesOf returns how many deliveries of the messages with an ID have begun or ended.
func (b *recordingBackend) deliveriesOf(topic, id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.deliveries[messageKey{topic, id}]
}

// note notes what a backend has of the messages with an ID, which may have been deleted or moved. If a delivery has
// begun or ended since it was found, it may not be there any more, and the delivery says what became of it.
func (b *recordingBackend) note(topic, id string, found []backend.Found, deliveries int) {
	b.update(func() {
		if len(found) > 0 && b.deliveries[messageKey{topic, id}] != deliveries {
			return
		}
		there := slices.DeleteFunc(slices.Clone(b.waiting), func(w *waitingMessage) bool { return w.topic != topic || w.id != id })
		visible := time.Time{} // of one that is on its way
		if len(found) > 0 && found[0].State != backend.StateDelivered {
			visible = found[0].VisibleAt
		}
		for _, w := range there {
			switch {
			case len(found) == 0 && w.handled:
				w.gone = true
			case len(found) == 0:
				b.remove(w)
			case !w.handled && (deliveries == 0 || !visible.IsZero()): // else it waits for a retry, as its delivery has said
				w.visible = visible
			}
		}
		if len(there) == 0 && len(found) > 0 {
			b.addWaiting(topic, &message.Message{UUID: id, Payload: found[0].Payload, Metadata: found[0].Metadata}, visible)
		}
	})
}

// isPaused reports whether nothing of a topic is delivered now.
func (b *recordingBackend) isPaused(topic string, now time.Time) bool {
	p, paused := b.paused[topic]
	return paused && p.HoldsAt(now)
}

// addWaiting notes that a message is in the queue.
func (b *recordingBackend) addWaiting(topic string, msg *message.Message, visible time.Time) *waitingMessage {
	w := &waitingMessage{topic: topic, id: msg.UUID, event: nameOf(msg), first: time.Now(), visible: visible}
	b.waiting = append(b.waiting, w)
	b.known[messageKey{topic, msg.UUID}] = true
	return w
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
	var place int // in the history: a handler may be done with them before Publish returns
	waiting := make([]*waitingMessage, len(msgs))
	b.update(func() { // before a consumer can see them
		place = len(b.records)
		for i, msg := range msgs {
			waiting[i] = b.addWaiting(topic, msg, visible[i])
		}
	})
	err := b.Backend.Publish(topic, msgs...)
	stored := err == nil && isStored(msgs)
	b.update(func() {
		for i, msg := range msgs {
			if !stored || !b.settleCondition(waiting[i], msg) {
				b.forget(waiting[i])
				continue
			}
			b.records = slices.Insert(b.records, place, newRecord(published, topic, msg, ""))
			place++
		}
	})
	if !stored {
		return err
	}
	if len(msgs) > 0 {
		crashIfInjected(msgs[0].Context())
	}
	return nil
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

// settleCondition reports whether a message that was published without an error is stored. It may be
// there in the place of another one.
func (b *recordingBackend) settleCondition(w *waitingMessage, msg *message.Message) bool {
	condition := backend.PublishConditionFromContext(msg.Context())
	switch result, _ := condition.Result(); result.Outcome {
	case backend.PublishExisted:
		return false
	case backend.PublishReplaced:
		b.replace(result.ID, w, condition.Debounce)
	case backend.PublishStored:
	}
	return true
}

// replace has w wait in the place of the message with an ID: until that one's time, or, with debounce, until its
// own, and no longer than debounce after the first.
func (b *recordingBackend) replace(id string, w *waitingMessage, debounce time.Duration) {
	i := slices.IndexFunc(b.waiting, func(other *waitingMessage) bool {
		return other.topic == w.topic && other.id == id && other != w && !other.handled
	})
	if i < 0 {
		return
	}
	there := b.waiting[i]
	w.first = there.first
	if latest := w.first.Add(debounce); debounce == 0 {
		w.visible = there.visible
	} else if w.visible.After(latest) {
		w.visible = latest
	}
	b.remove(there)
}

// Subscribe implements [message.Subscriber].
func (b *recordingBackend) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	from, err := b.Backend.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	b.update(func() { b.subscribed[topic] = true })
	to := make(chan *message.Message)
	go func() {
		defer close(to)
		for msg := range from {
			to <- b.deliver(topic, msg)
		}
	}()
	return to, nil
}

// isSubscribed reports whether topic has, or had, a subscription.
func (b *recordingBackend) isSubscribed(topic string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subscribed[topic]
}

// busy returns what there is to do now, or "", and what is closed when that changes.
func (b *recordingBackend) busy() (what string, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, w := range b.waiting {
		switch {
		case w.handled:
			return fmt.Sprintf("%s on topic %q is being handled", w.event, w.topic), b.changed
		case !w.visible.After(now) && b.subscribed[w.topic] && !b.isPaused(w.topic, now):
			return fmt.Sprintf("%s on topic %q waits to be handled", w.event, w.topic), b.changed
		}
	}
	return "", b.changed
}

func (b *recordingBackend) update(what func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	what()
	close(b.changed)
	b.changed = make(chan struct{})
}

// startHandling marks a message as being handled, one that came from elsewhere too.
func (b *recordingBackend) startHandling(topic string, msg *message.Message) (w *waitingMessage) {
	b.deliveries[messageKey{topic, msg.UUID}]++
	for _, w = range b.waiting {
		if w.topic == topic && w.id == msg.UUID && !w.handled {
			w.handled = true
			return w
		}
	}
	if !b.known[messageKey{topic, msg.UUID}] {
		b.addRecord(published, topic, msg, "")
	}
	w = b.addWaiting(topic, msg, time.Time{})
	w.handled = true
	return w
}

// forget takes back what addWaiting has noted of a message that is not stored.
func (b *recordingBackend) forget(w *waitingMessage) {
	b.remove(w)
	if !slices.ContainsFunc(b.waiting, func(other *waitingMessage) bool { return other.topic == w.topic && other.id == w.id }) {
		delete(b.known, messageKey{w.topic, w.id})
	}
}

// untilNext is how long the next message has to wait, or very long if none has.
func (b *recordingBackend) untilNext() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := time.Duration(1<<63 - 1)
	for _, w := range b.waiting {
		if wait := time.Until(w.visible); wait > 0 && b.subscribed[w.topic] {
			next = min(next, wait)
		}
	}
	return next
}

// forward notes that d has passed for what waits.
func (b *recordingBackend) forward(d time.Duration) {
	b.update(func() {
		for _, w := range b.waiting {
			w.first, w.visible = w.first.Add(-d), w.visible.Add(-d)
		}
	})
}

// deliver returns the message that the router gets in place of msg. Its outcome is
// passed on, unless a fault says otherwise.
func (b *recordingBackend) deliver(topic string, msg *message.Message) *message.Message {
	ctx, expire := context.WithCancelCause(msg.Context())
	d := &delivery{expire: expire}
	ctx = context.WithValue(ctx, deliveryKey{}, d)
	if facts := backend.DeliveryFromContext(ctx); facts != nil {
		d.info = deliverycopy.Of(facts)
		ctx = backend.WithDelivery(ctx, d.info)
	}
	handed := msg.Copy()
	handed.SetContext(ctx)
	var w *waitingMessage
	b.update(func() { w = b.startHandling(topic, msg) })
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

// settle tells the backend what became of a delivery, after it has been noted: the
// message may come again at once.
func (b *recordingBackend) settle(d *delivery, w *waitingMessage, msg *message.Message, acked bool) {
	b.update(func() { b.deliveries[messageKey{w.topic, w.id}]++ })
	var disposition backend.Disposition
	said := false
	if d.info != nil {
		disposition, said = d.info.Disposition()
	}
	switch {
	case d.committed():
		b.update(func() { b.remove(w) })
		msg.Ack()
	case b.isGone(w):
		b.update(func() { b.remove(w) })
		msg.Nack() // which changes nothing
	case fault(d.fault.Load()) != none: // the outcome is lost
		b.update(func() { w.handled, w.visible = false, time.Time{} })
		backend.Nack(msg, backend.DeliveryFromContext(msg.Context()).Unchanged())
	case acked:
		b.update(func() { b.remove(w) })
		msg.Ack()
	case disposition.Target != nil:
		b.update(func() {
			b.addRecord(deadLettered, disposition.Target.Topic, msg, disposition.Target.Metadata[backend.DeadLetterReason])
			w.topic, w.handled, w.visible = disposition.Target.Topic, false, time.Time{}
			b.known[messageKey{w.topic, w.id}] = true
		})
		backend.DeadLetter(msg, *disposition.Target)
	case said:
		b.update(func() { w.handled, w.visible = false, time.Now().Add(disposition.Fallback.Delay) })
		backend.Nack(msg, disposition.Fallback)
	default:
		b.update(func() { w.handled, w.visible = false, time.Time{} })
		msg.Nack()
	}
}

func (b *recordingBackend) isGone(w *waitingMessage) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.gone
}

func (b *recordingBackend) remove(w *waitingMessage) {
	b.waiting = slices.DeleteFunc(b.waiting, func(other *waitingMessage) bool { return other == w })
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
		what, reason := failed, "the handler did not return"
		if d != nil {
			d.recording.Add(1)
		}
		defer func() { // deferred for panics and runtime.Goexit
			if d != nil && !returned {
				d.unreturned.Store(meta.Handler, true)
			}
			b.update(func() {
				b.addRecord(what, meta.Topic, msg, reason)
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

// injectFault gives the delivery its fault, if one is due.
func (b *recordingBackend) injectFault(d *delivery) {
	if !d.begun.CompareAndSwap(false, true) { // one of several handlers
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun++
	if len(b.faults) == 0 {
		return
	}
	d.fault.Store(int32(b.faults[0]))
	if b.faults[0] == lease {
		d.expire(backend.ErrLeaseLost)
	}
	b.faults = b.faults[1:]
}

func (b *recordingBackend) addRecord(what, topic string, msg *message.Message, reason string) {
	b.records = append(b.records, newRecord(what, topic, msg, reason))
}

func newRecord(what, topic string, msg *message.Message, reason string) record {
	return record{what, nameOf(msg), topic, msg.Payload, reason}
}

// history is all that has happened, for the end of a message.
func (b *recordingBackend) history() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.records) == 0 {
		return "\nNo event was published or handled."
	}
	var out strings.Builder
	out.WriteString("\nHistory:")
	for _, r := range b.records {
		fmt.Fprintf(&out, "\n\t%-13s %s on topic %q", r.what, r.payload, r.topic)
		if r.reason != "" {
			fmt.Fprintf(&out, ": %s", r.reason)
		}
	}
	for _, w := range b.waiting {
		fmt.Fprintf(&out, "\n\t%-13s %s on topic %q", "waits", w.event, w.topic)
		if !b.subscribed[w.topic] {
			out.WriteString(", on which the router has no handlers")
		}
	}
	return out.String()
}

func (b *recordingBackend) scheduleFaults(what fault, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, slices.Repeat([]fault{what}, n)...)
}

func (b *recordingBackend) handlersCalled() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.called
}

func (b *recordingBackend) discover(topic string, msg *message.Message, deliveries int, wait time.Duration) (underWay bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.known[messageKey{topic, msg.UUID}]:
		return false
	case b.subscribed[topic] && (wait <= 0 || deliveries > 0):
		return true // it is noted when it comes
	}
	b.addRecord(published, topic, msg, "")
	b.addWaiting(topic, msg, time.Now().Add(wait))
	return false
}

func nameOf(msg *message.Message) string { return ezq.Marshaler{}.NameFromMessage(msg) }
