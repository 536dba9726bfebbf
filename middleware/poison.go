package middleware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// Poison moves messages that have failed for good to a dead-letter topic, so that
// they do not come back, and are not lost either:
//
//	router.Use(middleware.Retry{}.Middleware, middleware.Poison{}.Middleware)
//
// [Retry] decides which failures are final; it may be further out in the chain or
// further in. Without a Retry only [ezq.Permanent] errors are final, those of
// unknown and undecodable events among them; any other error passes. A message that
// was interrupted or has lost its lease never becomes a dead letter.
//
// A backend that promises DeadLetter moves the message in one step, and only if
// its lease is still valid. On any other the message is published with To and then
// acked: a crash between the two leaves it in both places. If it cannot be
// published, it stays where it is, and both errors are returned. A Topic that is the
// message's own is such an error, too; an ezq router then moves it to the default one.
//
// A dead letter is the message itself with the metadata [backend.DeadLetterReason],
// DeadLetterTopic, DeadLetterHandler, DeadLetterFailures and DeadLetterAt. The
// reason is the text of the error, at most 1024 bytes of it, as valid UTF-8 without
// NUL; the stack of a panic goes to the log only.
//
// One given with [ezq.Use] sees the failures of its handler, but not the events
// that no handler takes: those reach only the router's.
type Poison struct {
	// Topic is where dead letters go. Defaults to the topic that the message came
	// from, with "_dead" at its end.
	Topic string

	// To publishes the dead letters of backends that do not promise DeadLetter.
	// There it is required; elsewhere it is not used.
	To message.Publisher

	// MaxDeliveries is how often a message may be delivered without any outcome,
	// neither done nor failed, because its consumers crashed, lost it or were
	// interrupted. One that exceeds it is moved without being handled again: it
	// may be what they crash of. It needs a backend that promises Attempts
	// and Progress. On PGMQ before 1.10 snoozed and released deliveries count too.
	// Defaults to 25.
	MaxDeliveries int

	// Logger is told about every message that is dead-lettered. Defaults to that of the
	// router, which counts what is too many: see [ezq.LoggerFromContext] and [ezq.Config].
	Logger *slog.Logger
}

// Middleware implements [message.HandlerMiddleware]. It panics if MaxDeliveries
// is negative, or Topic cannot be the name of one: see [backend.CheckTopic].
func (p Poison) Middleware(next message.HandlerFunc) message.HandlerFunc {
	mustBeATopic("Poison.Topic", p.Topic)
	mustNotBeNegative("Poison.MaxDeliveries", p.MaxDeliveries)
	p.MaxDeliveries = cmp.Or(p.MaxDeliveries, 25)
	next = recoverPanics(next)
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		if n := deliveriesWithoutOutcome(ctx); n >= p.MaxDeliveries {
			err := fmt.Errorf("middleware: not handled, after %d deliveries without any outcome", n)
			return nil, p.deadLetter(ctx, msg, err, backend.DeliveryFromContext(ctx).Failures)
		}
		out, err := next(msg)
		msg.SetContext(ctx) // which next may have replaced
		if err == nil || isInterrupted(ctx, err) || isSnooze(err) || !isFinal(ctx, err) {
			return out, err
		}
		return nil, p.deadLetter(ctx, msg, err, failuresOf(ctx, err))
	}
}

// deliveriesWithoutOutcome returns how many of the deliveries before this one were neither done nor
// failed. Failures are left to Retry. More failures than deliveries are none: with them a
// publisher could have a message handled for ever that kills its consumers.
func deliveriesWithoutOutcome(ctx context.Context) int {
	d := deliveryWithProgress(ctx)
	if d == nil {
		return 0
	}
	if before := d.Number - 1; d.Failures <= before {
		return before - d.Failures
	}
	return d.Number - 1
}

// deadLetter moves msg, which has failed with err. If it cannot, it returns err and
// what is in the way.
func (p Poison) deadLetter(ctx context.Context, msg *message.Message, err error, failures int) error {
	from := topicOf(ctx)
	to := p.Topic
	if to == "" && from != "" {
		to = from + backend.DeadLetterSuffix
	}
	metadata := backend.DeadLetterMetadata(from, handlerOf(ctx), failures, err)
	if moveErr := p.moveDeadLetter(ctx, msg, to, metadata); moveErr != nil {
		return errors.Join(err, fmt.Errorf("middleware: dead letter to %q: %w", to, moveErr))
	}
	noteDeadLettered(ctx)
	failures, _ = strconv.Atoi(metadata[backend.DeadLetterFailures]) // an event that has expired has not failed
	attrs := []any{
		"event", excerpt.Of(eventOf(ctx, msg)), "id", excerpt.Of(msg.UUID), "topic", from, "to", to,
		"handler", handlerOf(ctx), "failures", failures, "error", err,
	}
	if d := backend.DeliveryFromContext(ctx); d != nil && d.PublishedTo != "" {
		attrs = append(attrs, "published_to", d.PublishedTo)
	}
	if e, ok := errors.AsType[*ezq.PanicError](err); ok {
		attrs = append(attrs, "stack", string(e.Stack))
	}
	about := sparse.About{Text: "middleware: message dead-lettered", Topic: from, Handler: handlerOf(ctx)}
	sparse.Log(ctx, cmp.Or(p.Logger, ezq.LoggerFromContext(ctx)), slog.LevelError, about, attrs...)
	return nil
}

var (
	errNoTopic     = errors.New("there is no topic for it: set Poison.Topic")
	errSameTopic   = errors.New("that is where it comes from: set another Poison.Topic")
	errNoPublisher = errors.New("the backend does not promise DeadLetter: set Poison.To")
	errSettled     = errors.New("the message was acked or nacked already")
)

func (p Poison) moveDeadLetter(ctx context.Context, msg *message.Message, to string, metadata message.Metadata) error {
	switch d := backend.DeliveryFromContext(ctx); {
	case to == "":
		return errNoTopic
	case to == metadata[backend.DeadLetterTopic]:
		return errSameTopic
	case d != nil && d.DeadLetters:
		if !backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: to, Metadata: metadata}) {
			return errSettled
		}
		return nil
	case p.To == nil:
		return errNoPublisher
	}
	dead := msg.Copy()
	// The handler is through with it: whatever has ended its context since then
	// must not keep it from arriving.
	dead.SetContext(context.WithoutCancel(ctx))
	backend.ClearDelay(dead.Metadata)
	for key, value := range metadata {
		dead.Metadata.Set(key, value)
	}
	return p.To.Publish(to, dead)
}
