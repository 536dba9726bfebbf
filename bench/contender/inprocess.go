package contender

import (
	"context"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// Those that keep messages in the process.
func inProcessContenders() []Contender {
	return []Contender{
		{
			Name:     "ezq/memory",
			Settings: "Watermill's Publisher and Subscriber, defaults",
			Open: func(_ context.Context, env Env) (Queue, error) {
				broker := memory.New(&memory.Config{Logger: quiet(), MaxInFlight: env.InFlight})
				return &inProcessQueue{watermillQueue: watermillQueue{env, broker, broker, broker.Close}}, nil
			},
		},
		{
			Name:     "ezq/memory router",
			Settings: "ezq.Router with a typed handler, Concurrency 100",
			Open: func(_ context.Context, env Env) (Queue, error) {
				broker := memory.New(&memory.Config{Logger: quiet()})
				return &memoryRouter{inProcessQueue{watermillQueue: watermillQueue{env, broker, broker, broker.Close}}, broker}, nil
			},
		},
		{
			Name:     "gochannel",
			Settings: "Watermill's GoChannel, output buffer 1,000",
			Serial:   true,
			Open: func(_ context.Context, env Env) (Queue, error) {
				queue := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 1000}, watermill.NopLogger{})
				return &inProcessQueue{watermillQueue: watermillQueue{env, queue, queue, queue.Close}}, nil
			},
		},
	}
}

// inProcessQueue counts what has not been handled: nothing is stored that could be counted.
type inProcessQueue struct {
	watermillQueue
	published, handled atomic.Int64
}

// Publish implements [Publisher].
func (q *inProcessQueue) Publish(ctx context.Context, m Message) error {
	q.published.Add(1)
	return q.watermillQueue.Publish(ctx, m)
}

// PublishBatch implements [BatchPublisher].
func (q *inProcessQueue) PublishBatch(ctx context.Context, messages []Message) error {
	q.published.Add(int64(len(messages)))
	return q.watermillQueue.PublishBatch(ctx, messages)
}

// Consume implements [Consumer].
func (q *inProcessQueue) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	return q.watermillQueue.Consume(ctx, func(id int) {
		q.handled.Add(1)
		handle(id)
	})
}

// Waiting implements [Queue].
func (q *inProcessQueue) Waiting(context.Context) (Count, error) {
	n := int(q.published.Load() - q.handled.Load())
	return Count{n, n}, nil
}

type memoryRouter struct {
	inProcessQueue
	broker *memory.Broker
}

// Publish implements [Publisher].
func (q *memoryRouter) Publish(ctx context.Context, m Message) error {
	q.published.Add(1)
	return ezq.Publish(ctx, q.broker, Event{m.ID, m.Text}, ezq.Topic(q.env.Topic))
}

// Consume implements [Consumer].
func (q *memoryRouter) Consume(ctx context.Context, handle func(id int)) (func() error, error) {
	router := ezq.NewRouter(q.broker, &ezq.Config{Concurrency: 100, Logger: quiet()})
	return runRouter(ctx, router, q.env.Topic, func(id int) {
		q.handled.Add(1)
		handle(id)
	})
}
