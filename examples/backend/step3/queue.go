package step3

import (
	"cmp"
	"context"
	"errors"
	"sync"

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
	q.broker.subscribe(topic, q.config.Group)
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

// SubscribeInitialize implements [message.SubscribeInitializer]: it makes the group known.
func (q *Queue) SubscribeInitialize(topic string) error {
	q.broker.subscribe(topic, q.config.Group)
	return nil
}

// Close ends the subscriptions. It may be called again.
func (q *Queue) Close() error {
	q.mu.Lock() // so that no Subscribe runs beside it
	q.end()
	q.mu.Unlock()
	q.subscriptions.Wait()
	return nil
}
