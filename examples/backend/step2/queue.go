// Package step2 keeps the contract of Watermill: a message is the broker's until it is
// acked, and Close ends what was begun.
package step2

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Broker stands for the server: what all processes share.
type Broker struct {
	mu      sync.Mutex
	topics  map[string][]*entry // what waits, in the order of publishing
	last    int
	changed chan struct{} // closed when something may have to be done
}

// entry is a message as it is stored.
type entry struct {
	place    int
	id       string
	payload  []byte
	metadata map[string]string
}

// NewBroker returns an empty broker.
func NewBroker() *Broker {
	return &Broker{topics: map[string][]*entry{}, changed: make(chan struct{})}
}

// Open returns what one process has: a Watermill Publisher and Subscriber.
func (b *Broker) Open() *Queue {
	ctx, end := context.WithCancel(context.Background())
	return &Queue{broker: b, ctx: ctx, end: end}
}

func (b *Broker) publish(topic string, entries []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		b.last++
		e.place = b.last
		b.put(topic, e)
	}
}

// giveBack puts an entry to the place that it was taken from.
func (b *Broker) giveBack(topic string, e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(topic, e)
}

func (b *Broker) put(topic string, e *entry) {
	i, _ := slices.BinarySearchFunc(b.topics[topic], e, func(x, y *entry) int { return x.place - y.place })
	b.topics[topic] = slices.Insert(b.topics[topic], i, e)
	close(b.changed)
	b.changed = make(chan struct{})
}

// take returns the first entry that waits, or else what is closed when there may be one.
func (b *Broker) take(topic string) (*entry, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range b.topics[topic] {
		b.topics[topic] = slices.Delete(b.topics[topic], i, i+1)
		return e, nil
	}
	return nil, b.changed
}

// Queue publishes to the broker and subscribes to it.
type Queue struct {
	broker *Broker
	ctx    context.Context // of the process
	end    context.CancelFunc

	mu            sync.Mutex
	subscriptions sync.WaitGroup
}

var errClosed = errors.New("the queue is closed")

// Publish implements [message.Publisher].
func (q *Queue) Publish(topic string, msgs ...*message.Message) error {
	if q.ctx.Err() != nil {
		return errClosed
	}
	var entries []*entry
	for _, msg := range msgs {
		entries = append(entries, &entry{id: msg.UUID, payload: slices.Clone(msg.Payload), metadata: maps.Clone(msg.Metadata)})
	}
	q.broker.publish(topic, entries)
	return nil
}

// Subscribe implements [message.Subscriber].
func (q *Queue) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil {
		return nil, errClosed
	}
	ctx, end := context.WithCancel(ctx)
	stop := context.AfterFunc(q.ctx, end)
	s := &subscription{broker: q.broker, topic: topic, ctx: ctx, out: make(chan *message.Message)}
	q.subscriptions.Go(func() {
		defer stop()
		defer end()
		s.run()
	})
	return s.out, nil
}

// Close ends the subscriptions. It may be called again.
func (q *Queue) Close() error {
	q.mu.Lock() // so that nobody subscribes beside it
	q.end()
	q.mu.Unlock()
	q.subscriptions.Wait()
	return nil
}

type subscription struct {
	broker *Broker
	topic  string
	ctx    context.Context
	out    chan *message.Message
}

func (s *subscription) run() {
	defer close(s.out)
	for e := s.next(); e != nil; e = s.next() {
		s.handOver(e)
	}
}

// next waits for an entry. It is nil when the subscription ends.
func (s *subscription) next() *entry {
	for s.ctx.Err() == nil {
		e, changed := s.broker.take(s.topic)
		if e != nil {
			return e
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
		}
	}
	return nil
}

// handOver delivers an entry, and returns when that is over.
func (s *subscription) handOver(e *entry) {
	ctx, end := context.WithCancel(s.ctx)
	defer end() // the context of a message ends with it
	msg := message.NewMessage(e.id, slices.Clone(e.payload))
	msg.Metadata = maps.Clone(e.metadata)
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	msg.SetContext(ctx)
	select {
	case s.out <- msg:
		s.settle(e, msg)
	case <-s.ctx.Done():
		s.broker.giveBack(s.topic, e)
	}
}

// pause is how long a nacked message waits: one that always fails keeps nobody busy.
const pause = 10 * time.Millisecond

func (s *subscription) settle(e *entry, msg *message.Message) {
	select {
	case <-msg.Acked():
		return
	case <-msg.Nacked():
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	case <-s.ctx.Done():
		select {
		case <-msg.Acked(): // a select with several choices takes any
			return
		default:
		}
	}
	s.broker.giveBack(s.topic, e)
}
