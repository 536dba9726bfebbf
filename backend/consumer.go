package backend

import "context"

// Consumer describes the receiver of a subscription's messages. It travels
// in the context given to Subscribe; backends that promise Drain honour it.
//
// Without it, a backend has only the context's own end to go by. Watermill
// wants that to end the subscription, and cannot say whether the messages being
// handled may still finish.
type Consumer struct {
	// Stopping is closed when the consumer takes no more messages. The backend
	// then releases what it has not handed over, keeps the leases and the
	// contexts of what it has, and closes the channel when all that is settled
	// and the outcome is stored. The end of the subscription's context itself
	// means that the consumer does not wait any longer: the contexts of all
	// messages end, with its cause.
	Stopping <-chan struct{}

	// Concurrency is how many messages the consumer handles at a time. 0 means
	// that the consumer does not say.
	Concurrency int

	// Health, if the consumer sets it, is told when the backend cannot fetch messages
	// for it any more, with the reason, and with nil when it can again. The backend
	// calls it within 5 seconds of the change, from any goroutine but never from two at
	// once, and goes on trying in between. If it ends the subscription for that reason, it
	// calls Health before it closes the channel. Health must not block. A subscription that
	// has not called it is fetching.
	Health func(err error)
}

type consumerKey struct{}

// WithConsumer returns a context for Subscribe that carries c. Message contexts
// inherit it.
func WithConsumer(ctx context.Context, c Consumer) context.Context {
	return context.WithValue(ctx, consumerKey{}, c)
}

// ConsumerFromContext returns the consumer in ctx, or the zero Consumer.
func ConsumerFromContext(ctx context.Context) Consumer {
	c, _ := ctx.Value(consumerKey{}).(Consumer)
	return c
}
