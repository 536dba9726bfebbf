package middleware

import (
	"cmp"
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// isInterrupted reports whether err, with which a handler has failed in ctx, is no
// failure: the router did not wait for it any longer, or another consumer may have
// the message.
//
// Backends of other origin end the contexts of messages without a cause.
func isInterrupted(ctx context.Context, err error) bool {
	if isInterruption(context.Cause(ctx)) || isInterruption(err) {
		return true
	}
	return backend.DeliveryFromContext(ctx) == nil && errors.Is(ctx.Err(), context.Canceled)
}

func isInterruption(err error) bool {
	return errors.Is(err, ezq.ErrInterrupted) || errors.Is(err, ezq.ErrLeaseLost)
}

// deliveryWithProgress returns the delivery in ctx if its backend keeps count of failures.
// Otherwise it is nil, and the caller has to count in the process.
func deliveryWithProgress(ctx context.Context) *backend.Delivery {
	if d := backend.DeliveryFromContext(ctx); d != nil && d.Progress {
		return d
	}
	return nil
}

// nackInterrupted gives msg, whose context ctx has ended, back to its backend with as
// many failures as it had. An ezq router would do that itself; Watermill's nack
// counts as a failure.
func nackInterrupted(ctx context.Context, msg *message.Message) {
	if d := backend.DeliveryFromContext(ctx); d != nil && isInterruption(context.Cause(ctx)) {
		backend.Nack(msg, backend.Redelivery{InPlace: true, Failures: d.Failures, Done: d.Done})
	}
}

// releaseInterrupted is nackInterrupted for a message that no handler has begun with.
func releaseInterrupted(ctx context.Context, msg *message.Message) {
	if backend.DeliveryFromContext(ctx) != nil && isInterruption(context.Cause(ctx)) {
		backend.Release(msg)
	}
}

// nackSnoozed reports whether err says that msg is to come back later, and has not failed.
// In Watermill's router, which does not know that, msg goes back here, if the backend can
// wait.
func nackSnoozed(ctx context.Context, msg *message.Message, err error) bool {
	wait, ok := ezq.SnoozeDelay(err)
	if d := deliveryWithProgress(ctx); ok && d != nil && !inRouter(ctx) {
		backend.Nack(msg, backend.Redelivery{Delay: wait, Uncounted: true, Failures: d.Failures, Done: d.Done})
	}
	return ok
}

func isSnooze(err error) bool {
	_, ok := ezq.SnoozeDelay(err)
	return ok
}

// isNacked reports whether msg was released, or dead-lettered, although its handler
// returned no error.
func isNacked(msg *message.Message) bool {
	select {
	case <-msg.Nacked():
		return true
	default:
		return false
	}
}

// inRouter reports whether an ezq router handles the message of ctx.
func inRouter(ctx context.Context) bool { return ezq.MetaFromContext(ctx).Topic != "" }

// topicOf returns where the message of ctx was received, by ezq's router or
// Watermill's. It is "" in neither.
func topicOf(ctx context.Context) string {
	return cmp.Or(ezq.MetaFromContext(ctx).Topic, message.SubscribeTopicFromCtx(ctx))
}

// handlerOf returns the name of the handler: in ezq's router its own, or else that of
// its event.
func handlerOf(ctx context.Context) string {
	return cmp.Or(ezq.MetaFromContext(ctx).Handler, message.HandlerNameFromCtx(ctx))
}

// eventOf returns the name of the event in msg: the one that its handler is for, or
// else the one that it names itself.
func eventOf(ctx context.Context, msg *message.Message) string {
	return cmp.Or(ezq.MetaFromContext(ctx).Event, ezq.Marshaler{}.NameFromMessage(msg))
}
