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
	Failures int               // how often the event has failed before
	Headers  map[string]string // of the event

	// Options are the options of the handler, for example [ezq.Use] with its middleware.
	Options []ezq.HandleOption
}

// Outcome is what became of an event.
type Outcome struct {
	// Done is true if the event is complete, and is not delivered again.
	Done bool

	// Err is the error of the handler, as its middleware returned it. It is a
	// [*ezq.PanicError] if the handler or its middleware panicked.
	Err error

	// RetryAfter is the time until the next delivery, if the event has failed or was put
	// off with [ezq.Snooze].
	RetryAfter time.Duration

	// DeadLetter is the topic that the event was moved to, if it was dead-lettered, and
	// Reason is why.
	DeadLetter, Reason string
}

// Deliver delivers one event to a handler, and returns when the handler has returned. The
// event is encoded and decoded, passes the middleware in d.Options, and has an [ezq.Meta],
// but is in no queue. Deliver fails the test if the event cannot be published.
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
