package step8

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Queue publishes to the broker and subscribes to it.
type Queue struct {
	broker *Broker
	config Config
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
		e, err := newEntry(msg)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	q.broker.publish(topic, entries)
	return nil
}

// newEntry copies a message.
func newEntry(msg *message.Message) (*entry, error) {
	delay, visible, err := backend.DelayOf(msg)
	if err != nil {
		return nil, err
	}
	if delay > 0 {
		visible = time.Now().Add(delay)
	}
	e := &entry{
		visible: visible, stored: time.Now(),
		id: msg.UUID, payload: slices.Clone(msg.Payload), metadata: maps.Clone(msg.Metadata),
	}
	backend.ClearDelay(e.metadata) // it must not delay what is published with them again
	return e, nil
}

// letter is what is left of an entry that is given up: its failures start anew.
func (e *entry) letter(letter *backend.DeadLetterTarget) *entry {
	metadata := maps.Clone(e.metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	maps.Copy(metadata, letter.Metadata)
	return &entry{stored: time.Now(), id: e.id, payload: e.payload, metadata: metadata}
}

// Features tells ezq what the queue promises.
func (q *Queue) Features() backend.Features {
	return backend.Features{Ordered: true, Delay: true, Redelay: true, Attempts: true, Progress: true, DeadLetter: true, Drain: true, Lease: true}
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
	s := &subscription{
		broker: q.broker, config: q.config, topic: topic, ctx: ctx,
		out: make(chan *message.Message), freed: make(chan struct{}, 1),
	}
	consumer := backend.ConsumerFromContext(ctx)
	s.stopping = consumer.Stopping
	s.config.InFlight = cmp.Or(consumer.Concurrency, s.config.InFlight)
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
