package step2

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
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
	s := &subscription{
		broker: q.broker, config: q.config, topic: topic, ctx: ctx,
		out: make(chan *message.Message), freed: make(chan struct{}, 1),
	}
	q.subscriptions.Go(func() {
		defer stop()
		defer end()
		s.run()
	})
	return s.out, nil
}

// Close ends the subscriptions. It may be called again.
func (q *Queue) Close() error {
	q.mu.Lock() // so that no Subscribe runs beside it
	q.end()
	q.mu.Unlock()
	q.subscriptions.Wait()
	return nil
}
