package middleware

import (
	"cmp"
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// interrupted reports whether err, with which a handler has failed in ctx, is no
// failure: the router did not wait for it any longer, or another consumer may have
// the message.
//
// Backends of other origin end the contexts of messages without a cause.
func interrupted(ctx context.Context, err error) bool {
	if taken(context.Cause(ctx)) || taken(err) {
		return true
	}
	return backend.DeliveryFromContext(ctx) == nil && errors.Is(ctx.Err(), context.Canceled)
}

func taken(err error) bool {
	return errors.Is(err, ezq.ErrInterrupted) || errors.Is(err, ezq.ErrLeaseLost)
}

// durable returns the delivery in ctx if its backend keeps count of failures. It is
// nil if not: who wants to know them has to count in the process.
func durable(ctx context.Context) *backend.Delivery {
	if d := backend.DeliveryFromContext(ctx); d != nil && d.Progress {
		return d
	}
	return nil
}

// giveBack gives msg, whose context ctx has ended, back to its backend with as
// many failures as it had. An ezq router would do that itself; Watermill's nack
// counts as a failure.
func giveBack(ctx context.Context, msg *message.Message) {
	if d := backend.DeliveryFromContext(ctx); d != nil && taken(context.Cause(ctx)) {
		backend.Nack(msg, backend.Redelivery{InPlace: true, Failures: d.Failures, Done: d.Done})
	}
}

// release is giveBack for a message that no handler has begun with.
func release(ctx context.Context, msg *message.Message) {
	if backend.DeliveryFromContext(ctx) != nil && taken(context.Cause(ctx)) {
		backend.Release(msg)
	}
}

// snoozed reports whether err says that msg is to come back later, and has not failed.
// In Watermill's router, which does not know that, msg goes back here, if the backend can
// wait.
func snoozed(ctx context.Context, msg *message.Message, err error) bool {
	wait, ok := ezq.SnoozeDelay(err)
	if d := durable(ctx); ok && d != nil && !inRouter(ctx) {
		backend.Nack(msg, backend.Redelivery{Delay: wait, Uncounted: true, Failures: d.Failures, Done: d.Done})
	}
	return ok
}

func isSnooze(err error) bool {
	_, ok := ezq.SnoozeDelay(err)
	return ok
}

// wentBack reports whether msg was given back, or given up, although its handler
// returned no error.
func wentBack(msg *message.Message) bool {
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
