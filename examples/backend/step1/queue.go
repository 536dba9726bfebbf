// Package step1 is the least that publishes and subscribes.
package step1

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Broker stands for the server: what all processes share.
type Broker struct {
	mu     sync.Mutex
	topics map[string]chan *message.Message
}

// NewBroker returns an empty broker.
func NewBroker() *Broker { return &Broker{topics: map[string]chan *message.Message{}} }

// Open returns what one process has: a Watermill Publisher and Subscriber.
func (b *Broker) Open() *Queue { return &Queue{broker: b} }

func (b *Broker) topic(name string) chan *message.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[name] == nil {
		b.topics[name] = make(chan *message.Message, 1000)
	}
	return b.topics[name]
}

// Queue publishes to the broker and subscribes to it.
type Queue struct{ broker *Broker }

// Publish implements [message.Publisher].
func (q *Queue) Publish(topic string, msgs ...*message.Message) error {
	for _, msg := range msgs {
		q.broker.topic(topic) <- msg
	}
	return nil
}

// Subscribe implements [message.Subscriber].
func (q *Queue) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	stored, out := q.broker.topic(topic), make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case msg := <-stored:
				select {
				case out <- msg:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Close implements [message.Publisher] and [message.Subscriber].
func (q *Queue) Close() error { return nil }
