package ezqotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"

	"github.com/ezq-go/ezq/ezq"
)

// Batch gives each call of fn, a handler for [ezq.HandleBatch], a span of its own,
// which is linked to the publish of each event. What fn does with its context is
// below it:
//
//	ezq.HandleBatch(router, ezqotel.Batch(telemetry, index))
//
// The events themselves are reported by [Telemetry.Middleware], one by one.
func Batch[E any](t *Telemetry, fn func(context.Context, []E) error) func(context.Context, []E) error {
	return func(ctx context.Context, events []E) (err error) {
		ctx, span := t.startBatch(ctx, len(events))
		err = errPanicked
		defer func() {
			if err != nil {
				recordError(span, err)
			}
			if batchErr, ok := errors.AsType[ezq.BatchError](err); ok {
				span.SetAttributes(attribute.Int("ezq.batch.failed", len(batchErr)))
			}
			span.End()
		}()
		return fn(ctx, events)
	}
}
