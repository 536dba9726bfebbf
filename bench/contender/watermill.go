package contender

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// watermillQueue is any Watermill Pub/Sub.
type watermillQueue struct {
	env        Env
	publisher  message.Publisher
	subscriber message.Subscriber
	close      func() error
}

// Publish implements [Publisher].
func (q *watermillQueue) Publish(_ context.Context, m Message) error {
	return q.publisher.Publish(q.env.Topic, toWatermill(m))
}

// PublishBatch implements [BatchPublisher].
func (q *watermillQueue) PublishBatch(_ context.Context, messages []Message) error {
	all := make([]*message.Message, len(messages))
	for i, m := range messages {
		all[i] = toWatermill(m)
	}
	return q.publisher.Publish(q.env.Topic, all...)
}

func toWatermill(m Message) *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), m.Body)
	msg.Metadata.Set("content-type", "application/json")
	return msg
}

// Consume implements [Consumer].
func (q *watermillQueue) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	ctx, cancel := context.WithCancel(ctx)
	messages, err := q.subscriber.Subscribe(ctx, q.env.Topic)
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.receive(messages, handle)
	}()
	return func() error {
		cancel()
		return await(done)
	}, nil
}

func (q *watermillQueue) receive(messages <-chan *message.Message, handle func(id int)) {
	if q.env.InFlight == 0 {
		for msg := range messages {
			handle(idOf(msg.Payload))
			msg.Ack()
		}
		return
	}
	slots := make(chan struct{}, q.env.InFlight)
	var running sync.WaitGroup
	for msg := range messages {
		slots <- struct{}{}
		running.Go(func() {
			handle(idOf(msg.Payload))
			msg.Ack()
			<-slots
		})
	}
	running.Wait()
}

// Close implements [Queue].
func (q *watermillQueue) Close() error { return q.close() }
