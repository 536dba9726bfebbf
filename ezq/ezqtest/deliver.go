package ezqtest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// Delivery says how [Deliver] delivers an event. The zero value is a first delivery.
type Delivery struct {
	Failures int               // how often it has failed before
	Headers  map[string]string // that it carries

	// Options are those of the handler: [ezq.Use] with its middleware, for example.
	Options []ezq.HandleOption
}

// Outcome is what became of an event.
type Outcome struct {
	// Done says that the event is done, and does not come back.
	Done bool

	// Err is what the handler returned, and its middleware let pass. It is a
	// [*ezq.PanicError] if one of them panicked.
	Err error

	// RetryAfter is when an event that has failed, or was put off with [ezq.Snooze], comes
	// back.
	RetryAfter time.Duration

	// DeadLetter is the topic that the event was moved to, if it was dead-lettered, and
	// Reason is why.
	DeadLetter, Reason string
}

// Deliver delivers one event to a handler: encoded and decoded, through the middleware
// in d.Options, with what [ezq.MetaFromContext] tells. It returns when that is done, and fails
// the test if the event cannot be published. It waits in no queue.
func Deliver[E any](tb testing.TB, handler func(ctx context.Context, event E) error, event E, d Delivery) Outcome {
	tb.Helper()
	var sent envelope
	var headers []ezq.PublishOption
	for name, value := range d.Headers {
		headers = append(headers, ezq.Header(name, value))
	}
	if err := ezq.Publish(tb.Context(), &sent, event, headers...); err != nil {
		tb.Fatal("ezqtest:", err)
	}

	var o Outcome
	router := ezq.NewRouter(&sent, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
	router.Use(func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) (out []*message.Message, err error) {
			out, err = next(msg)
			o.Err = err
			return out, err
		}
	})
	ezq.Handle(router, handler, d.Options...)
	sent.info = &backend.Delivery{Number: d.Failures + 1, Failures: d.Failures, PublishedAt: time.Now(), DeadLetters: true, Progress: true}
	if err := router.Run(tb.Context()); err != nil && !errors.As(err, new(*ezq.SubscriptionError)) {
		tb.Fatal("ezqtest:", err)
	}
	disposition, _ := sent.info.Disposition()
	o.RetryAfter = disposition.Fallback.Delay
	if disposition.Target != nil {
		o.DeadLetter, o.Reason = disposition.Target.Topic, disposition.Target.Metadata[backend.DeadLetterReason]
	}
	o.Done = sent.acked
	return o
}

// envelope carries one message, once.
type envelope struct {
	msg   *message.Message
	info  *backend.Delivery
	acked bool
}

// Publish implements [message.Publisher].
func (e *envelope) Publish(_ string, msgs ...*message.Message) error {
	e.msg = msgs[0]
	return nil
}

// Subscribe delivers the message. The subscription ends when it is settled.
func (e *envelope) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	delivered := make(chan *message.Message)
	e.msg.SetContext(backend.WithDelivery(ctx, e.info))
	go func() {
		defer close(delivered)
		delivered <- e.msg
		select {
		case <-e.msg.Acked():
			e.acked = true
		case <-e.msg.Nacked():
		}
	}()
	return delivered, nil
}

// Features implements [backend.Backend].
func (e *envelope) Features() backend.Features {
	return backend.Features{Redelay: true, Attempts: true, Progress: true, DeadLetter: true, Drain: true}
}

// Close implements [message.Subscriber].
func (e *envelope) Close() error { return nil }
