package middleware

import (
	"cmp"
	"context"
	"errors"
	"time"

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

// nackInterrupted releases msg, whose context ctx has ended, with as many failures as it
// had. An ezq router would do that itself; Watermill's nack counts as a failure.
func nackInterrupted(ctx context.Context, msg *message.Message) {
	if d := backend.DeliveryFromContext(ctx); d != nil && isInterruption(context.Cause(ctx)) {
		redelivery := unfailed(d)
		redelivery.InPlace = true
		backend.Nack(msg, redelivery)
	}
}

// unfailed is the redelivery of a message that a handler has begun with, and that has not
// failed. So the message is not unknown any more.
func unfailed(d *backend.Delivery) backend.Redelivery {
	redelivery := d.Unchanged()
	redelivery.UnknownSince = time.Time{}
	return redelivery
}

// releaseInterrupted is nackInterrupted for a message that no handler has begun with.
func releaseInterrupted(ctx context.Context, msg *message.Message) {
	if backend.DeliveryFromContext(ctx) != nil && isInterruption(context.Cause(ctx)) {
		backend.Release(msg)
	}
}

// nackSnoozed reports whether err says that msg is to come back later, and has not failed.
// In Watermill's router, which does not know that, it releases msg with that delay, if the
// backend can wait.
func nackSnoozed(ctx context.Context, msg *message.Message, err error) bool {
	wait, ok := ezq.SnoozeDelay(err)
	if d := deliveryWithProgress(ctx); ok && d != nil && !inRouter(ctx) {
		redelivery := unfailed(d)
		redelivery.Delay, redelivery.Uncounted = wait, true
		backend.Nack(msg, redelivery)
	}
	return ok
}

func isSnooze(err error) bool {
	_, ok := ezq.SnoozeDelay(err)
	return ok
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
