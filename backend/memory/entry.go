package memory

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
)

// entry is one stored message. The mutex of its topics guards it.
type entry struct {
	id        int64
	uuid      string
	metadata  message.Metadata
	payload   []byte
	published time.Time
	key       string // of its condition

	publishedTo string // the topic, of a copy for a group that takes a pattern
	origin      *queue // of a dead letter: where its consumers had it; nil if another one has published it

	visible   time.Time // may be claimed from then on
	number    int       // of the last lease
	delivered bool      // it was leased once, whether that counts or not
	leased    time.Time // when that was given; zero once it was released
	failures  int
	done      []string
	unknown   time.Time
	index     int // in entries
}

// newEntry copies msg, so that neither its publisher nor a consumer can change
// what is stored.
func newEntry(msg *message.Message, now time.Time) (*entry, error) {
	if msg == nil {
		return nil, &backend.RefusedError{What: "the message", Reason: "it is nil", Remedy: "publish what message.NewMessage returns"}
	}
	if err := backend.CheckHeaders(msg.UUID, msg.Metadata); err != nil {
		return nil, err
	}
	delay, at, err := backend.DelayOf(msg)
	if err != nil {
		return nil, err
	}
	e := &entry{
		uuid:      msg.UUID,
		metadata:  make(message.Metadata, len(msg.Metadata)),
		payload:   bytes.Clone(msg.Payload),
		published: now,
		visible:   now.Add(delay),
	}
	if at.After(now) {
		e.visible = at
	}
	maps.Copy(e.metadata, msg.Metadata)
	backend.ClearDelay(e.metadata)
	return e, nil
}

// copyFor returns the copy of e, which is published to a topic, that the queue of a group gets.
func (e *entry) copyFor(q *queue, topic string) *entry {
	other := *e
	other.metadata = maps.Clone(e.metadata)
	if q.topic.name != topic {
		other.publishedTo = topic
	}
	return &other
}

// uniqueKey returns the key of e in its queue.
func (e *entry) uniqueKey() key { return key{e.publishedTo, e.key} }

// group returns the group that has dead-lettered e, or "".
func (e *entry) group() string {
	if e.origin == nil {
		return ""
	}
	return e.origin.group
}

// replaces reports whether e, which is new, may take the place of other: that was never delivered, and
// does not wait for years.
func (e *entry) replaces(other *entry) bool {
	latest := e.published.Add(backend.MaxReplaceWait)
	return !other.delivered && (!other.visible.After(latest) || !other.visible.After(e.visible))
}

// isBusy reports whether e may be leased, or waits after a failure: it has a delivery that counts, and
// is invisible.
func (e *entry) isBusy(now time.Time) bool { return e.number > 0 && e.visible.After(now) }

// holdsKey reports whether e keeps others with its key out: unless it has expired, and waits. It is handled no more then.
func (e *entry) holdsKey(now time.Time) bool {
	at := backend.ExpiryOf(e.metadata)
	return at.IsZero() || now.Before(at) || e.isBusy(now)
}

// replace makes e the message that other is, in the place of e. It keeps its time if debounce
// is 0, or else takes that of other, until debounce after it was first stored.
func (e *entry) replace(other *entry, debounce time.Duration) {
	e.uuid, e.metadata, e.payload = other.uuid, other.metadata, other.payload
	e.failures, e.done, e.unknown = 0, nil, time.Time{}
	if debounce > 0 {
		e.visible = other.visible
		e.debounce(debounce)
	}
}

// debounce makes e visible no later than longest after it was first stored, unless that is 0.
func (e *entry) debounce(longest time.Duration) {
	if latest := e.published.Add(longest); longest > 0 && e.visible.After(latest) {
		e.visible = latest
	}
}

func (e *entry) isLeasedBy(token subscription.Token) bool {
	return e.number == token.Number && e.leased.Equal(token.At)
}

// lease returns e for a consumer. saysTopic is whether it says what it was published to.
func (e *entry) lease(saysTopic bool) subscription.Lease {
	msg := message.NewMessage(e.uuid, bytes.Clone(e.payload))
	maps.Copy(msg.Metadata, e.metadata)
	lease := subscription.Lease{
		Token:   subscription.Token{ID: e.id, Number: e.number, At: e.leased},
		Message: msg,
		Delivery: &backend.Delivery{
			Number:       e.number,
			DeadLetters:  true,
			Progress:     true,
			Failures:     e.failures,
			Done:         slices.Clone(e.done),
			UnknownSince: e.unknown,
			PublishedAt:  e.published,
		},
	}
	if saysTopic {
		lease.Delivery.PublishedTo = e.publishedTo
	}
	return lease
}

// deadLetter returns e as it goes from a queue to another topic.
func (e *entry) deadLetter(from *queue, target *backend.DeadLetterTarget, now time.Time) *entry {
	dead := &entry{
		uuid: e.uuid, metadata: e.metadata, payload: e.payload, published: now, visible: now, publishedTo: e.publishedTo, origin: from,
	}
	maps.Copy(dead.metadata, target.Metadata)
	return dead
}

// found returns what is told of e, which lies in a place of the topic, or the pattern, that was asked for.
func (e *entry) found(p place, asked string, now time.Time) backend.Found {
	f := backend.Found{
		ID: e.uuid, UniqueKey: e.key, Place: p.at, Queue: p.label(), State: e.state(now), PublishedAt: e.published, VisibleAt: e.visible,
		Deliveries: e.number, Failures: e.failures, Size: len(e.payload), Metadata: maps.Clone(e.metadata),
	}
	if backend.IsPattern(asked) {
		f.UniqueKey = "" // of another topic
	}
	if p.says != "" || backend.IsPattern(asked) {
		f.PublishedTo = e.publishedTo
	}
	if p.at == backend.InDeadLetters {
		f.State = backend.StateDead
	}
	if len(e.payload) <= backend.MaxFoundPayload {
		f.Payload = bytes.Clone(e.payload)
	}
	return f
}

func (e *entry) state(now time.Time) backend.State {
	switch {
	case e.number > 0:
		return backend.StateDelivered
	case e.visible.After(now):
		return backend.StateDelayed
	default:
		return backend.StateWaiting
	}
}

// entries is a heap: the message to claim next is first.
type entries []*entry

func (es entries) Len() int { return len(es) }

func (es entries) Less(i, j int) bool {
	if !es[i].visible.Equal(es[j].visible) {
		return es[i].visible.Before(es[j].visible)
	}
	return es[i].id < es[j].id
}

func (es entries) Swap(i, j int) {
	es[i], es[j] = es[j], es[i]
	es[i].index, es[j].index = i, j
}

func (es *entries) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // container/heap passes on what topic.add gave it
	e.index = len(*es)
	*es = append(*es, e)
}

func (es *entries) Pop() any {
	old := *es
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*es = old[:len(old)-1]
	return e
}
